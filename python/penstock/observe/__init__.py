"""What the engine says about itself: metrics for Prometheus and one structured line per message event.

Nothing here decides anything, and nothing here knows the engine: readers of counters and a place for lines
are passed in. The hot path is counted and written down in Rust; Python adds what happens seldom.
"""
