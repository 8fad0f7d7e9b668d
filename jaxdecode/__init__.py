"""jaxdecode: from the logits of any JAX language model to text, in one program."""
