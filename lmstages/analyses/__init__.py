"""What is found out beside the scores: of samples, documents and positions, of fitted models, of more text."""
