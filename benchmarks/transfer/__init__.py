"""Our whole verified upload path beside rclone's `copy` and `check` (`make bench-transfer`)."""
