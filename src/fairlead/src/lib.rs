//! The fairlead binary as a library: composition for `main` and for tests.
