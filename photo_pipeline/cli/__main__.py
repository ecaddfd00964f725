"""Runs the command as `python -m photo_pipeline.cli`."""

from photo_pipeline.cli.program import main

if __name__ == "__main__":
    main()
