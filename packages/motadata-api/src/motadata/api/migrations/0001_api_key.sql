-- Keys by which callers of the HTTP API name and prove their tenant. Only the SHA-256 of a key is
-- kept: whoever reads this table cannot call the API with it.
CREATE TABLE motadata.api_key (
    tenant_id  text        NOT NULL,
    key_id     uuid        NOT NULL,
    digest     bytea       NOT NULL CHECK (octet_length(digest) = 32),
    label      text        NOT NULL CHECK (length(label) <= 200),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, key_id)
);

-- A key is looked up within the tenant that it names.
CREATE UNIQUE INDEX api_key_digest ON motadata.api_key (tenant_id, digest);

SELECT motadata.isolate('motadata.api_key');
