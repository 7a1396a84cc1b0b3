;; The component around tcp.c: its imports from WASI with their types, a memory, and how the functions of the one
;; are lowered to those of the other. The compiled module takes the place of $main, which is empty here.
(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-type))

  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable-type))

  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error-type (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (alias outer 1 $pollable-type (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (export "input-stream" (type $input (sub resource)))
    (export "output-stream" (type $output (sub resource)))
    (type $stream-error-type (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error-type)))
    (export "[method]input-stream.read" (func
      (param "self" (borrow $input)) (param "len" u64) (result (result (list u8) (error $stream-error)))))
    (export "[method]input-stream.subscribe" (func
      (param "self" (borrow $input)) (result (own $pollable))))
    (export "[method]output-stream.check-write" (func
      (param "self" (borrow $output)) (result (result u64 (error $stream-error)))))
    (export "[method]output-stream.write" (func
      (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]output-stream.subscribe" (func
      (param "self" (borrow $output)) (result (own $pollable))))))
  (alias export $streams "input-stream" (type $input-type))
  (alias export $streams "output-stream" (type $output-type))

  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-arguments" (func (result (list string))))))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-type (type $outer-output))
    (export "output-stream" (type $output (eq $outer-output)))
    (export "get-stdout" (func (result (own $output))))))
  (import "wasi:cli/stderr@0.2.0" (instance $stderr
    (alias outer 1 $output-type (type $outer-output))
    (export "output-stream" (type $output (eq $outer-output)))
    (export "get-stderr" (func (result (own $output))))))

  (import "wasi:sockets/network@0.2.0" (instance $network
    (export "network" (type (sub resource)))
    (type $error-code-type (enum
      "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
      "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
      "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
      "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
      "permanent-resolver-failure"))
    (export "error-code" (type (eq $error-code-type)))
    (type $family-type (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type (eq $family-type)))
    (type $ipv4-address-type (tuple u8 u8 u8 u8))
    (export "ipv4-address" (type $ipv4-address (eq $ipv4-address-type)))
    (type $ipv6-address-type (tuple u16 u16 u16 u16 u16 u16 u16 u16))
    (export "ipv6-address" (type $ipv6-address (eq $ipv6-address-type)))
    (type $ipv4-socket-type (record (field "port" u16) (field "address" $ipv4-address)))
    (export "ipv4-socket-address" (type $ipv4-socket (eq $ipv4-socket-type)))
    (type $ipv6-socket-type (record
      (field "port" u16) (field "flow-info" u32) (field "address" $ipv6-address) (field "scope-id" u32)))
    (export "ipv6-socket-address" (type $ipv6-socket (eq $ipv6-socket-type)))
    (type $address-type (variant (case "ipv4" $ipv4-socket) (case "ipv6" $ipv6-socket)))
    (export "ip-socket-address" (type (eq $address-type)))))
  (alias export $network "network" (type $network-type))
  (alias export $network "error-code" (type $error-code-type))
  (alias export $network "ip-address-family" (type $family-type))
  (alias export $network "ip-socket-address" (type $address-type))

  (import "wasi:sockets/instance-network@0.2.0" (instance $instance-network
    (alias outer 1 $network-type (type $outer-network))
    (export "network" (type $network (eq $outer-network)))
    (export "instance-network" (func (result (own $network))))))

  (import "wasi:sockets/tcp@0.2.0" (instance $tcp
    (alias outer 1 $input-type (type $outer-input))
    (export "input-stream" (type $input (eq $outer-input)))
    (alias outer 1 $output-type (type $outer-output))
    (export "output-stream" (type $output (eq $outer-output)))
    (alias outer 1 $pollable-type (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (alias outer 1 $network-type (type $outer-network))
    (export "network" (type $network (eq $outer-network)))
    (alias outer 1 $error-code-type (type $outer-error-code))
    (export "error-code" (type $error-code (eq $outer-error-code)))
    (alias outer 1 $address-type (type $outer-address))
    (export "ip-socket-address" (type $address (eq $outer-address)))
    (type $shutdown-type (enum "receive" "send" "both"))
    (export "shutdown-type" (type $shutdown (eq $shutdown-type)))
    (export "tcp-socket" (type $socket (sub resource)))
    (export "[method]tcp-socket.start-bind" (func
      (param "self" (borrow $socket)) (param "network" (borrow $network)) (param "local-address" $address)
      (result (result (error $error-code)))))
    (export "[method]tcp-socket.finish-bind" (func
      (param "self" (borrow $socket)) (result (result (error $error-code)))))
    (export "[method]tcp-socket.start-listen" (func
      (param "self" (borrow $socket)) (result (result (error $error-code)))))
    (export "[method]tcp-socket.finish-listen" (func
      (param "self" (borrow $socket)) (result (result (error $error-code)))))
    (export "[method]tcp-socket.local-address" (func
      (param "self" (borrow $socket)) (result (result $address (error $error-code)))))
    (export "[method]tcp-socket.accept" (func
      (param "self" (borrow $socket))
      (result (result (tuple (own $socket) (own $input) (own $output)) (error $error-code)))))
    (export "[method]tcp-socket.subscribe" (func
      (param "self" (borrow $socket)) (result (own $pollable))))
    (export "[method]tcp-socket.shutdown" (func
      (param "self" (borrow $socket)) (param "shutdown-type" $shutdown)
      (result (result (error $error-code)))))))
  (alias export $tcp "tcp-socket" (type $socket-type))

  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
    (alias outer 1 $socket-type (type $outer-socket))
    (export "tcp-socket" (type $socket (eq $outer-socket)))
    (alias outer 1 $error-code-type (type $outer-error-code))
    (export "error-code" (type $error-code (eq $outer-error-code)))
    (alias outer 1 $family-type (type $outer-family))
    (export "ip-address-family" (type $family (eq $outer-family)))
    (export "create-tcp-socket" (func
      (param "address-family" $family) (result (result (own $socket) (error $error-code)))))))

  ;; The memory is a module of its own, because what is imported is lowered with it, before $main exists. What
  ;; the host returns goes to its end, from 16 MiB on, until $main releases it.
  (core module $memory-module
    (memory (export "memory") 256)
    (global $free (mut i32) (i32.const 0x1000000))
    (func (export "release") (global.set $free (i32.const 0x1000000)))
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (if (local.get $old) (then unreachable))
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get $size)))
      (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
        (then
          (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536)))))
            (then unreachable))))
      (local.get $at)))
  (core instance $m (instantiate $memory-module))
  (alias core export $m "memory" (core memory $memory))
  (alias core export $m "realloc" (core func $realloc))
  (alias core export $m "release" (core func $release))

  (core func $get-arguments (canon lower (func $environment "get-arguments") (memory $memory) (realloc $realloc)))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $get-stderr (canon lower (func $stderr "get-stderr")))
  (core func $poll (canon lower (func $poll "poll") (memory $memory) (realloc $realloc)))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $drop-pollable (canon resource.drop $pollable-type))
  (core func $drop-error (canon resource.drop $error-type))
  (core func $read (canon lower (func $streams "[method]input-stream.read") (memory $memory) (realloc $realloc)))
  (core func $subscribe-input (canon lower (func $streams "[method]input-stream.subscribe")))
  (core func $drop-input (canon resource.drop $input-type))
  (core func $check-write (canon lower (func $streams "[method]output-stream.check-write") (memory $memory)))
  (core func $write (canon lower (func $streams "[method]output-stream.write") (memory $memory)))
  (core func $print (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core func $subscribe-output (canon lower (func $streams "[method]output-stream.subscribe")))
  (core func $drop-output (canon resource.drop $output-type))
  (core func $instance-network (canon lower (func $instance-network "instance-network")))
  (core func $create (canon lower (func $create "create-tcp-socket") (memory $memory)))
  (core func $start-bind (canon lower (func $tcp "[method]tcp-socket.start-bind") (memory $memory)))
  (core func $finish-bind (canon lower (func $tcp "[method]tcp-socket.finish-bind") (memory $memory)))
  (core func $start-listen (canon lower (func $tcp "[method]tcp-socket.start-listen") (memory $memory)))
  (core func $finish-listen (canon lower (func $tcp "[method]tcp-socket.finish-listen") (memory $memory)))
  (core func $local-address (canon lower (func $tcp "[method]tcp-socket.local-address") (memory $memory)))
  (core func $accept (canon lower (func $tcp "[method]tcp-socket.accept") (memory $memory)))
  (core func $subscribe-socket (canon lower (func $tcp "[method]tcp-socket.subscribe")))
  (core func $shutdown (canon lower (func $tcp "[method]tcp-socket.shutdown") (memory $memory)))
  (core func $drop-socket (canon resource.drop $socket-type))

  (core module $main)
  (core instance $main (instantiate $main
    (with "env" (instance (export "memory" (memory $memory))))
    (with "memory" (instance (export "release" (func $release))))
    (with "wasi:cli/environment@0.2.0" (instance (export "get-arguments" (func $get-arguments))))
    (with "wasi:cli/stdout@0.2.0" (instance (export "get-stdout" (func $get-stdout))))
    (with "wasi:cli/stderr@0.2.0" (instance (export "get-stderr" (func $get-stderr))))
    (with "wasi:io/poll@0.2.0" (instance
      (export "poll" (func $poll))
      (export "[method]pollable.block" (func $block))
      (export "[resource-drop]pollable" (func $drop-pollable))))
    (with "wasi:io/error@0.2.0" (instance (export "[resource-drop]error" (func $drop-error))))
    (with "wasi:io/streams@0.2.0" (instance
      (export "[method]input-stream.read" (func $read))
      (export "[method]input-stream.subscribe" (func $subscribe-input))
      (export "[resource-drop]input-stream" (func $drop-input))
      (export "[method]output-stream.check-write" (func $check-write))
      (export "[method]output-stream.write" (func $write))
      (export "[method]output-stream.blocking-write-and-flush" (func $print))
      (export "[method]output-stream.subscribe" (func $subscribe-output))
      (export "[resource-drop]output-stream" (func $drop-output))))
    (with "wasi:sockets/instance-network@0.2.0" (instance (export "instance-network" (func $instance-network))))
    (with "wasi:sockets/tcp-create-socket@0.2.0" (instance (export "create-tcp-socket" (func $create))))
    (with "wasi:sockets/tcp@0.2.0" (instance
      (export "[method]tcp-socket.start-bind" (func $start-bind))
      (export "[method]tcp-socket.finish-bind" (func $finish-bind))
      (export "[method]tcp-socket.start-listen" (func $start-listen))
      (export "[method]tcp-socket.finish-listen" (func $finish-listen))
      (export "[method]tcp-socket.local-address" (func $local-address))
      (export "[method]tcp-socket.accept" (func $accept))
      (export "[method]tcp-socket.subscribe" (func $subscribe-socket))
      (export "[method]tcp-socket.shutdown" (func $shutdown))
      (export "[resource-drop]tcp-socket" (func $drop-socket))))))
  (alias core export $main "run" (core func $main-run))
  (func $run (result (result)) (canon lift (core func $main-run)))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
