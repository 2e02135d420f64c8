//! The provider for AWS against moto's server, over HTTP, behind a layer that is as strict as AWS where moto is not.

mod adoption;
mod aurora;
mod buckets;
mod conformance;
mod counterpart;
mod databases;
mod errors;
mod faults;
mod fleet;
mod ground;
mod late;
mod machines;
mod program;
mod quotas;
mod shown;
mod strict;
mod swept;
mod whole;
