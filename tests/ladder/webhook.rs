//! Tests of webhook: see the module docs of what is tested.
