"""The benchmarks behind `make bench` and docs/performance.md. Not shipped."""
