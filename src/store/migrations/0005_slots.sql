-- What keeps an environment apart in the provider's network, and where its machine was asked for.

ALTER TABLE ledgers ADD COLUMN slot TEXT;
-- One environment at most, whatever else goes wrong.
CREATE UNIQUE INDEX ledgers_slot ON ledgers (slot) WHERE slot IS NOT NULL AND standing <> 'released';

ALTER TABLE intents ADD COLUMN placement TEXT;
