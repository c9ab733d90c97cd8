BEGIN TRANSACTION;
CREATE TABLE accounts (
        id TEXT PRIMARY KEY,
        run TEXT NOT NULL,
        limit_pusd INTEGER NOT NULL CHECK (limit_pusd >= 0),
        posted_pusd INTEGER NOT NULL CHECK (posted_pusd >= 0),
        pending_pusd INTEGER NOT NULL CHECK (pending_pusd >= 0),
        assumed_pusd INTEGER NOT NULL CHECK (assumed_pusd >= 0),
        recovered_pusd INTEGER NOT NULL CHECK (recovered_pusd >= 0),
        overrun_pusd INTEGER NOT NULL CHECK (overrun_pusd >= 0),
        frozen_reason TEXT,
        usage_unread INTEGER NOT NULL,
        models TEXT,
        token_hash TEXT NOT NULL UNIQUE,
        key_hash TEXT NOT NULL,
        key_is_own INTEGER NOT NULL,
        key_usage_base_pusd INTEGER,
        budget_file TEXT,
        budget_mode TEXT NOT NULL,
        calls INTEGER NOT NULL,
        refused INTEGER NOT NULL
    );
INSERT INTO "accounts" VALUES('a','run',900,130,42,70,0,0,NULL,0,'["m/x"]','token of a','k',1,5,'b.txt','simple',2,1);
INSERT INTO "accounts" VALUES('b','run',1000,65,81,30,3,2,'by hand',0,NULL,'token of b','',0,NULL,NULL,'simple',3,0);
CREATE TABLE entries (
        entry_id INTEGER PRIMARY KEY,
        reservation_id TEXT REFERENCES reservations (id),
        account TEXT NOT NULL REFERENCES accounts (id),
        kind TEXT NOT NULL,
        cost_pusd INTEGER NOT NULL,
        at_s REAL NOT NULL,
        line TEXT NOT NULL
    );
INSERT INTO "entries" VALUES(1,'posted','a','posted',60,1760000000.0,'{"entry_id":1,"time":"2025-10-09T08:53:20.000Z","account":"a","model":"m/x","provider":"P","generation_id":"gen-1","tag":"t","prompt_tokens":100,"cached_tokens":40,"cache_write_tokens":7,"completion_tokens":9,"reasoning_tokens":0,"conversation":null,"cache_miss":null,"cache_saved_usd":null,"cost_usd":"0.00000000006","reserved_usd":"0.0000000001","status":null,"ttft_ms":null,"duration_ms":null,"api":"chat","streamed":true,"outcome":"posted","reservation_id":"posted","reason":""}');
INSERT INTO "entries" VALUES(2,'voided','a','voided',0,1760000000.0,'{"entry_id":2,"time":"2025-10-09T08:53:20.000Z","account":"a","model":"m/x","provider":"","generation_id":null,"tag":null,"prompt_tokens":0,"cached_tokens":0,"cache_write_tokens":0,"completion_tokens":0,"reasoning_tokens":0,"conversation":null,"cache_miss":null,"cache_saved_usd":null,"cost_usd":"0","reserved_usd":"0.0000000001","status":null,"ttft_ms":null,"duration_ms":null,"api":"chat","streamed":true,"outcome":"voided","reservation_id":"voided","reason":"refused"}');
INSERT INTO "entries" VALUES(3,'assumed','a','assumed',70,1760000000.0,'{"entry_id":3,"time":"2025-10-09T08:53:20.000Z","account":"a","model":"m/x","provider":"","generation_id":"gen-2","tag":null,"prompt_tokens":0,"cached_tokens":0,"cache_write_tokens":0,"completion_tokens":0,"reasoning_tokens":0,"conversation":null,"cache_miss":null,"cache_saved_usd":null,"cost_usd":"0.00000000007","reserved_usd":"0.0000000001","status":null,"ttft_ms":null,"duration_ms":null,"api":"chat","streamed":true,"outcome":"assumed","reservation_id":"assumed","reason":""}');
INSERT INTO "entries" VALUES(4,'dear','b','posted',12,1760000000.0,'{"entry_id":4,"time":"2025-10-09T08:53:20.000Z","account":"b","model":"m/x","provider":"P","generation_id":null,"tag":"u","prompt_tokens":3,"cached_tokens":0,"cache_write_tokens":0,"completion_tokens":1,"reasoning_tokens":0,"conversation":null,"cache_miss":null,"cache_saved_usd":null,"cost_usd":"0.000000000012","reserved_usd":"0.00000000001","status":null,"ttft_ms":null,"duration_ms":null,"api":"chat","streamed":true,"outcome":"posted","reservation_id":"dear","reason":""}');
INSERT INTO "entries" VALUES(5,NULL,'b','recovered',3,1760000000.0,'{"entry_id":5,"time":"2025-10-09T08:53:20.000Z","account":"b","model":"","provider":"","generation_id":null,"tag":null,"prompt_tokens":0,"cached_tokens":0,"cache_write_tokens":0,"completion_tokens":0,"reasoning_tokens":0,"conversation":null,"cache_miss":null,"cache_saved_usd":null,"cost_usd":"0.000000000003","reserved_usd":"0","status":null,"ttft_ms":null,"duration_ms":null,"api":"","streamed":false,"outcome":"recovered","reservation_id":null,"reason":""}');
INSERT INTO "entries" VALUES(6,'shared','b','posted',20,1760000000.0,'{"entry_id":6,"time":"2025-10-09T08:53:20.000Z","account":"b","model":"m/x","provider":"P","generation_id":null,"tag":null,"prompt_tokens":5,"cached_tokens":0,"cache_write_tokens":0,"completion_tokens":0,"reasoning_tokens":0,"conversation":null,"cache_miss":null,"cache_saved_usd":null,"cost_usd":"0.00000000002","reserved_usd":"0.00000000005","status":null,"ttft_ms":null,"duration_ms":null,"api":"chat","streamed":true,"outcome":"posted","reservation_id":"shared","reason":""}');
INSERT INTO "entries" VALUES(7,'shared-2','b','assumed',30,1760000000.0,'{"entry_id":7,"time":"2025-10-09T08:53:20.000Z","account":"b","model":"m/y","provider":"","generation_id":null,"tag":null,"prompt_tokens":0,"cached_tokens":0,"cache_write_tokens":0,"completion_tokens":0,"reasoning_tokens":0,"conversation":null,"cache_miss":null,"cache_saved_usd":null,"cost_usd":"0.00000000003","reserved_usd":"0.00000000005","status":null,"ttft_ms":null,"duration_ms":null,"api":"chat","streamed":true,"outcome":"assumed","reservation_id":"shared-2","reason":""}');
CREATE TABLE key_bases (
        id INTEGER PRIMARY KEY,
        upstream TEXT NOT NULL,
        key_hash TEXT NOT NULL,
        usage_pusd INTEGER NOT NULL CHECK (usage_pusd >= 0),
        byok_pusd INTEGER NOT NULL CHECK (byok_pusd >= 0),
        at_s REAL NOT NULL,
        lost TEXT
    );
INSERT INTO "key_bases" VALUES(1,'https://openrouter.ai/api/v1','foreign',100,0,1760000000.0,NULL);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('boot_id','boot 1');
INSERT INTO "meta" VALUES('durability','process');
INSERT INTO "meta" VALUES('outcomes a','{"served":1,"causes":[{"code":"bad_request","source":"request","text":"no","model":"","detail":"","count":1,"limit_needed_pusd":0}],"last":null,"since_served":0,"since_served_upstream":0}');
INSERT INTO "meta" VALUES('outcomes b','{"served":0,"causes":[],"last":null,"since_served":0,"since_served_upstream":0}');
INSERT INTO "meta" VALUES('schema_version','4');
CREATE TABLE quarantine (
        model TEXT NOT NULL, tag TEXT NOT NULL, reason TEXT NOT NULL, at_s REAL NOT NULL, upstream TEXT NOT NULL,
        PRIMARY KEY (upstream, model, tag)
    ) WITHOUT ROWID;
INSERT INTO "quarantine" VALUES('m/z','u','billed 12 pico-USD, reserved 10 (dear)',1760000000.0,'https://openrouter.ai');
CREATE TABLE reservations (
        id TEXT PRIMARY KEY,
        account TEXT NOT NULL REFERENCES accounts (id),
        state TEXT NOT NULL CHECK (state IN ('pending', 'posted', 'voided')),
        reserved_pusd INTEGER NOT NULL CHECK (reserved_pusd >= 0),
        posted_pusd INTEGER NOT NULL CHECK (posted_pusd >= 0),
        api TEXT NOT NULL,
        model TEXT NOT NULL,
        tags TEXT NOT NULL,
        bound INTEGER NOT NULL,
        streamed INTEGER NOT NULL,
        created_at_s REAL NOT NULL,
        generation_id TEXT,
        tag TEXT,
        unknown_since_s REAL,
        assumed INTEGER NOT NULL,
        digest TEXT NOT NULL
    , key_base INTEGER REFERENCES key_bases (id));
INSERT INTO "reservations" VALUES('posted','a','posted',100,60,'chat','m/x','["t", "u"]',16,1,1760000000.0,'gen-1','t',NULL,0,'d',NULL);
INSERT INTO "reservations" VALUES('voided','a','voided',100,0,'chat','m/x','["t", "u"]',16,1,1760000000.0,NULL,NULL,NULL,0,'d',NULL);
INSERT INTO "reservations" VALUES('assumed','a','posted',100,70,'chat','m/x','["t", "u"]',16,1,1760000000.0,'gen-2',NULL,1760000000.0,1,'d',NULL);
INSERT INTO "reservations" VALUES('dear','b','posted',10,12,'chat','m/z','["t", "u"]',16,1,1760000000.0,NULL,'u',NULL,0,'d',NULL);
INSERT INTO "reservations" VALUES('shared','b','posted',50,20,'chat','m/x','["t", "u"]',16,1,1760000000.0,NULL,NULL,NULL,0,'d',1);
INSERT INTO "reservations" VALUES('shared-2','b','posted',50,30,'chat','m/y','["t", "u"]',16,1,1760000000.0,NULL,NULL,NULL,1,'d',1);
INSERT INTO "reservations" VALUES('plain','b','pending',40,0,'chat','m/y','["t", "u"]',16,1,1760000000.0,NULL,NULL,NULL,0,'d',NULL);
INSERT INTO "reservations" VALUES('named','b','pending',41,0,'chat','m/y','["t", "u"]',16,1,1760000000.0,'gen-3','t',NULL,0,'d',1);
INSERT INTO "reservations" VALUES('unknown','a','pending',42,0,'chat','m/x','["t", "u"]',16,1,1760000000.0,'gen-4','u',2000000000.0,0,'d',NULL);
CREATE INDEX reservations_generation ON reservations (generation_id) WHERE generation_id IS NOT NULL;
CREATE TRIGGER reservations_end_once BEFORE UPDATE ON reservations
        WHEN old.state <> 'pending' AND NOT (old.assumed AND new.state = 'posted' AND NOT new.assumed)
        BEGIN SELECT RAISE(ABORT, 'a reservation ends once'); END;
CREATE TRIGGER entries_stay_as_they_are BEFORE UPDATE ON entries
        BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER entries_stay BEFORE DELETE ON entries
        BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER generations_are_one_calls BEFORE INSERT ON reservations
        WHEN new.generation_id IS NOT NULL
            AND EXISTS (SELECT 1 FROM reservations WHERE generation_id = new.generation_id)
        BEGIN SELECT RAISE(ABORT, 'a generation belongs to one call'); END;
CREATE TRIGGER generations_stay_one_calls BEFORE UPDATE ON reservations
        WHEN new.generation_id IS NOT NULL AND new.generation_id IS NOT old.generation_id
            AND EXISTS (SELECT 1 FROM reservations WHERE generation_id = new.generation_id AND id <> new.id)
        BEGIN SELECT RAISE(ABORT, 'a generation belongs to one call'); END;
CREATE TRIGGER key_bases_stay_as_they_are
        BEFORE UPDATE OF id, upstream, key_hash, usage_pusd, byok_pusd, at_s ON key_bases
        BEGIN SELECT RAISE(ABORT, 'a base is read once'); END;
CREATE INDEX reservations_key_base ON reservations (key_base) WHERE key_base IS NOT NULL;
COMMIT;
