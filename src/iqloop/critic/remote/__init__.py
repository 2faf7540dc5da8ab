"""A critic whose model runs on a server that speaks OpenAI's chat API: vLLM, `transformers serve` and others."""
