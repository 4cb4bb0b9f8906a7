"""Where mail goes: accepted domains, address spaces, next hops. Pure."""
