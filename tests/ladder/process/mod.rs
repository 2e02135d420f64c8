//! Tests of process: see the module docs of what is tested.
