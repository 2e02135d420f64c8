//! Tests of database: see the module docs of what is tested.
