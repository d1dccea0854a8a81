"""`python -m feature_assets` is the feature-assets command."""

import sys

from feature_assets.cli import main

sys.exit(main())
