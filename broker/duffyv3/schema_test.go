package duffyv3_test

// What Duffy 3.3.9 has made with `duffy setup-db schema`, and its migrations with
// databases of before: the tables, columns, types and constraints.
const schema = `
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
`

// Rows with all that can be in them.
const rows = `
INSERT INTO tenants (id, created_at, retired_at, name, is_admin, ssh_key, api_key, node_quota, session_lifetime, session_lifetime_max) VALUES
	(1, '2022-05-09 16:40:06.491392', NULL, 'admin', TRUE, '# please override this', 'hash 1', NULL, NULL, NULL),
	(7, '2022-06-01 00:00:00', '2023-07-01 12:00:00.5', 'gone', FALSE, E'ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\\three\t''quoted''; --\r\n', 'hash 7', 5, '06:00:00', '12:00:00'),
	(3, '2022-06-02 01:02:03', NULL, 'long; ''life'' é', FALSE, '', '$2b$12$abc', 0, '1 day 02:03:04.5', '1 year 2 mons 3 days'),
	(4, '2022-06-02 01:02:03', NULL, '\N', FALSE, '\.', '', 10, '-1 days +25:00:00', '1 week');
INSERT INTO sessions (tenant_id, retired_at, data) VALUES (1, NULL, '{"a": "\n;''"}'), (1, '2023-01-01', '{}'), (7, NULL, '{}');
INSERT INTO nodes (hostname, state, retired_at, data) VALUES
	('a', 'ready', NULL, '{}'), ('b', 'ready', NULL, '{"nodepool": "x"}'), ('c', 'deployed', NULL, '{}'),
	(NULL, 'failed', '2023-01-01', '{}'), ('d', 'done', '2023-01-01', '{}');
INSERT INTO sessions_nodes (session_id, node_id) VALUES (1, 3);
`
