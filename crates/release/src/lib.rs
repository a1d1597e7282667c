//! A strategy becomes absolute steps, and an observed situation becomes the next decision.
