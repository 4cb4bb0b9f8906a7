"""SMTP as a dialogue: sessions of both sides, their transition tables, and every reply. Pure."""
