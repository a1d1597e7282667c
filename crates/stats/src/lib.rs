//! Histograms and the tests that compare two versions.
