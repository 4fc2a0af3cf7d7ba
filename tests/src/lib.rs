//! End-to-end tests of Opta-LMX: helpers shared by the test targets.
