"""Policy-gradient methods: REINFORCE, A2C, PPO and MAPPO, on one actor–critic core."""
