"""Delivery: connections to smart hosts, Maildirs, outcomes, reports to senders, expiry."""
