;; A WASI preview 2 command that copies its standard input to its standard output, to the end. It reads 64 KiB
;; at once and writes 4 KiB, the most that may be written at once.
(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-type))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $output (sub resource)))
    (export "input-stream" (type $input (sub resource)))
    (alias outer 1 $error-type (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (type $stream-error-type (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error-type)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]input-stream.blocking-read" (func
      (param "self" (borrow $input)) (param "len" u64) (result (result (list u8) (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-type))
  (alias export $streams "input-stream" (type $input-type))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-type (type $outer-output))
    (export "output-stream" (type $output (eq $outer-output)))
    (export "get-stdout" (func (result (own $output))))))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input-type (type $outer-input))
    (export "input-stream" (type $input (eq $outer-input)))
    (export "get-stdin" (func (result (own $input))))))

  (core module $memory-module
    (memory (export "memory") 16)
    ;; There is one buffer, and one list at a time.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
  (core instance $m (instantiate $memory-module))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "realloc" (core func $realloc))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $get-stdin (canon lower (func $stdin "get-stdin")))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory $memory) (realloc $realloc)))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory)))

  (core module $main
    (import "host" "memory" (memory 1))
    (import "host" "get-stdout" (func $get-stdout (result i32)))
    (import "host" "get-stdin" (func $get-stdin (result i32)))
    (import "host" "read" (func $read (param i32 i64 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (func (export "run") (result i32)
      (local $in i32) (local $out i32) (local $at i32) (local $left i32) (local $piece i32)
      (local.set $in (call $get-stdin))
      (local.set $out (call $get-stdout))
      (loop $reading
        (call $read (local.get $in) (i64.const 65536) (i32.const 16))
        ;; At the end of its input it is told that the stream is closed: the second case of an error.
        (if (i32.load8_u (i32.const 16)) (then (return (i32.eqz (i32.load8_u (i32.const 20))))))
        (local.set $at (i32.load (i32.const 20)))
        (local.set $left (i32.load (i32.const 24)))
        (block $written
          (loop $writing
            (br_if $written (i32.eqz (local.get $left)))
            (local.set $piece (select (i32.const 4096) (local.get $left) (i32.gt_u (local.get $left) (i32.const 4096))))
            (call $write (local.get $out) (local.get $at) (local.get $piece) (i32.const 32))
            (if (i32.load8_u (i32.const 32)) (then (return (i32.const 1))))
            (local.set $at (i32.add (local.get $at) (local.get $piece)))
            (local.set $left (i32.sub (local.get $left) (local.get $piece)))
            (br $writing)))
        (br $reading))
      (i32.const 1)))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory))
    (export "get-stdout" (func $get-stdout))
    (export "get-stdin" (func $get-stdin))
    (export "read" (func $read))
    (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.3" (instance $command)))
