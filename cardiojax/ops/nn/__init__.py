"""Operations of networks, written so that XLA compiles them to fast code on every backend."""
