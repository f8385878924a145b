"""Games stepped on the host: processes of environments over shared memory, batched inference, and their rollouts."""
