//! The agent: checks a commit out, builds it, migrates its database, runs its services, keeps their logs.
