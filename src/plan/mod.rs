//! Pure verbs: what should be, and which steps lead there.
