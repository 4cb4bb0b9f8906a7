"""Taking mail in: which connector a peer meets, what it may do there, and the way of a message to its 250."""
