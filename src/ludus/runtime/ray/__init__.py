"""The Ray runtime: actors, inference servers, learners and evaluators in processes of a cluster. Only here is Ray."""
