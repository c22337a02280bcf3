"""Image files: opened, looked at, made into pixels."""
