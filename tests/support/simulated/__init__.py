"""Programs that stand in for servers and engines which are not on this machine."""
