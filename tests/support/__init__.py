"""What tests of several folders share: daemon, receiver, client, contents. No code of Penstock's is used."""
