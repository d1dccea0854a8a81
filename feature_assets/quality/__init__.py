"""Quality: rules on values, statistics over the frame, and the report. Knows no Dagster and no files."""
