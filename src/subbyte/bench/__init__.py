"""How fast is it here: latency, time per layer, and which ways of computing are fastest on this machine."""
