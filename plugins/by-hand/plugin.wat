;; The ABI without an SDK: denies connections to privileged ports but 80 and 443, for every pod of the same identity.
;; plugins/README.md says what each export is, bpf/abi.h where each field lies.
(module
  (memory (export "memory") 1 1)
  ;; Bytes 1024 to 5119 are the context record (struct plugin_context), 0 to 15 the result (struct plugin_result).
  (func (export "sluice_abi_v1"))
  (func (export "sluice_ctx") (result i32) (i32.const 1024))
  (func (export "sluice_ctx_cap") (result i32) (i32.const 4096))
  (func (export "sluice_res") (result i32) (i32.const 0))

  (func (export "sluice_eval") (param $hook i32) (result i32)
    (local $port i32)
    ;; destination_port: 66 bytes into the context.
    (local.set $port (i32.load16_u (i32.const 1090)))
    ;; fields: what was read, PLUGIN_FIELD_DESTINATION_PORT.
    (i32.store (i32.const 0) (i32.const 8192))
    (if (result i32)
      (i32.or
        (i32.ge_u (local.get $port) (i32.const 1024))
        (i32.or (i32.eq (local.get $port) (i32.const 80)) (i32.eq (local.get $port) (i32.const 443))))
      ;; allow (1), scope identity (4 << 4), a TTL of 234 << 4 units of 10 ms: 37 seconds.
      (then (i32.const 0x4ea41))
      ;; deny (2), the same, reason 1 of the manifest.
      (else (i32.const 0x14ea42)))))
