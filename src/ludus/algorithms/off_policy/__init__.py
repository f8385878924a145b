"""Off-policy actor–critic methods: DDPG, TD3, SAC and MADDPG, on one core."""
