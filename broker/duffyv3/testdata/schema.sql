-- What Duffy 3.3.9 makes with `duffy setup-db schema`, and its migrations of
-- databases of before: the tables, columns, types, constraints and indexes.
CREATE TYPE node_state_enum AS ENUM ('unused', 'provisioning', 'ready', 'contextualizing', 'deployed', 'deprovisioning', 'done', 'failed');
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO alembic_version VALUES ('6654d536b836');
CREATE TABLE tenants (
	created_at TIMESTAMP WITHOUT TIME ZONE DEFAULT (NOW() AT TIME ZONE 'utc') NOT NULL,
	retired_at TIMESTAMP WITHOUT TIME ZONE,
	id SERIAL NOT NULL,
	name TEXT NOT NULL,
	is_admin BOOLEAN DEFAULT FALSE NOT NULL,
	ssh_key TEXT NOT NULL,
	api_key TEXT NOT NULL,
	node_quota INTEGER,
	session_lifetime INTERVAL,
	session_lifetime_max INTERVAL,
	CONSTRAINT tenants_pkey PRIMARY KEY (id),
	CONSTRAINT tenants_name_key UNIQUE (name)
);
CREATE TABLE sessions (
	created_at TIMESTAMP WITHOUT TIME ZONE DEFAULT (NOW() AT TIME ZONE 'utc') NOT NULL,
	retired_at TIMESTAMP WITHOUT TIME ZONE,
	id SERIAL NOT NULL,
	tenant_id INTEGER NOT NULL,
	expires_at TIMESTAMP WITHOUT TIME ZONE,
	data JSON DEFAULT '{}' NOT NULL,
	CONSTRAINT sessions_pkey PRIMARY KEY (id),
	CONSTRAINT sessions_tenant_id_tenants_fkey FOREIGN KEY(tenant_id) REFERENCES tenants (id)
);
CREATE TABLE nodes (
	created_at TIMESTAMP WITHOUT TIME ZONE DEFAULT (NOW() AT TIME ZONE 'utc') NOT NULL,
	retired_at TIMESTAMP WITHOUT TIME ZONE,
	id SERIAL NOT NULL,
	hostname TEXT,
	ipaddr TEXT,
	state node_state_enum DEFAULT 'unused' NOT NULL,
	comment TEXT,
	pool TEXT,
	reusable BOOLEAN DEFAULT FALSE NOT NULL,
	data JSON DEFAULT '{}' NOT NULL,
	CONSTRAINT nodes_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX active_hostname_index ON nodes (hostname)
	WHERE retired_at IS NULL AND state <> 'provisioning'::node_state_enum AND state <> 'failed'::node_state_enum;
CREATE UNIQUE INDEX active_ipaddr_index ON nodes (ipaddr)
	WHERE retired_at IS NULL AND state <> 'provisioning'::node_state_enum AND state <> 'failed'::node_state_enum;
CREATE INDEX nodes_pool_index ON nodes (pool);
CREATE INDEX nodes_state_index ON nodes (state);
CREATE TABLE sessions_nodes (
	session_id INTEGER NOT NULL,
	node_id INTEGER NOT NULL,
	pool TEXT,
	data JSON DEFAULT '{}' NOT NULL,
	CONSTRAINT sessions_nodes_pkey PRIMARY KEY (session_id, node_id),
	CONSTRAINT sessions_nodes_session_id_sessions_fkey FOREIGN KEY(session_id) REFERENCES sessions (id),
	CONSTRAINT sessions_nodes_node_id_nodes_fkey FOREIGN KEY(node_id) REFERENCES nodes (id)
);
CREATE INDEX sessions_nodes_session_id_index ON sessions_nodes (session_id);
