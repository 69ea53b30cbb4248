"""The checks of `celery-observe doctor`: one file each, which registers itself."""
