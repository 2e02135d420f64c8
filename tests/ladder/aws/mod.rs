//! The provider for AWS against moto's server, over HTTP, behind a layer that is as strict as AWS where moto is not.

mod counterpart;
mod databases;
mod errors;
mod fleet;
mod ground;
mod machines;
mod program;
mod quotas;
mod strict;
mod whole;
