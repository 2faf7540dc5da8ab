"""``iqloop rerank``: several candidates of a pipeline, the best first."""
