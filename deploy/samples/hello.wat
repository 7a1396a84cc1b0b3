;; A WASI preview 1 command that greets with its arguments once a second, for ever: something to look at
;; with `kubectl logs -f`. With `--once` as its first argument it greets once and exits 0, as a job does.
;; It is WebAssembly as text, so that no compiler is needed to try a node.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  (memory (export "memory") 3)
  ;; 0: number of arguments, 4: their size, 8: written, 16: an iovec, 64: a subscription, 128: its event
  (data (i32.const 256) "Hello from WebAssembly")
  (data (i32.const 288) " ")
  (data (i32.const 292) "\n")
  ;; 4096: pointers to the arguments, 65536: the arguments, each with a zero at its end
  (global $pointers i32 (i32.const 4096))
  (global $texts i32 (i32.const 65536))

  (func $print (param $text i32) (param $length i32)
    (i32.store (i32.const 16) (local.get $text))
    (i32.store (i32.const 20) (local.get $length))
    (if (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 8))
      (then (call $proc_exit (i32.const 1)))))

  (func $length (param $text i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $text))
    (block $found
      (loop $next
        (br_if $found (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $end) (local.get $text)))

  (func $argument (param $index i32) (result i32)
    (i32.load (i32.add (global.get $pointers) (i32.mul (local.get $index) (i32.const 4)))))

  (func $greet (param $first i32)
    (call $print (i32.const 256) (i32.const 22))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $first) (i32.load (i32.const 0))))
        (call $print (i32.const 288) (i32.const 1))
        (call $print (call $argument (local.get $first)) (call $length (call $argument (local.get $first))))
        (local.set $first (i32.add (local.get $first) (i32.const 1)))
        (br $next)))
    (call $print (i32.const 292) (i32.const 1)))

  ;; A relative subscription to the monotonic clock (id 1), one second in nanoseconds.
  (func $sleep
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 1000000000))
    (if (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 8))
      (then (call $proc_exit (i32.const 1)))))

  ;; Whether the first argument is `--once`: its six letters and the zero, as a little-endian number.
  (func $once (result i32)
    (if (i32.lt_u (i32.load (i32.const 0)) (i32.const 2)) (then (return (i32.const 0))))
    (i64.eq
      (i64.and (i64.load (call $argument (i32.const 1))) (i64.const 0x00ffffffffffffff))
      (i64.const 0x0065636e6f2d2d)))

  (func (export "_start")
    (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
    ;; More than the memory that is set aside for them is refused, not overwritten.
    (if (i32.or
          (i32.gt_u (i32.load (i32.const 0)) (i32.const 15360))
          (i32.gt_u (i32.load (i32.const 4)) (i32.const 131064)))
      (then (call $proc_exit (i32.const 1))))
    (if (call $args_get (global.get $pointers) (global.get $texts))
      (then (call $proc_exit (i32.const 1))))
    (if (call $once)
      (then (call $greet (i32.const 2)) (return)))
    (loop $forever
      (call $greet (i32.const 1))
      (call $sleep)
      (br $forever))))
