"""Crash and fault rig: runs that break the daemon on purpose and settle the account afterwards."""
