//! [`RandomEntropy`]: randomness from the operating system's generator, by way of a fast one.

use fairlead_resource::hooks::Entropy;

/// Real randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomEntropy;

impl Entropy for RandomEntropy {
    fn bits(&self) -> u64 {
        rand::random()
    }
}
