//! Decoder language models.
