;; A WASI preview 2 command that tries to reach what is the node's own: a port of its loopback address, and the
;; address where clouds tell machines who they are (169.254.169.254). It ends well if it may begin to connect to
;; neither; otherwise its exit code is 1.
(component
  (import "wasi:sockets/network@0.2.0" (instance $network
    (export "network" (type (sub resource)))
    (type $code-type (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
      "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
      "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
      "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
      "permanent-resolver-failure"))
    (export "error-code" (type $code (eq $code-type)))
    (type $family-type (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type $family (eq $family-type)))
    (type $v4-address-type (tuple u8 u8 u8 u8))
    (export "ipv4-address" (type $v4-address (eq $v4-address-type)))
    (type $v6-address-type (tuple u16 u16 u16 u16 u16 u16 u16 u16))
    (export "ipv6-address" (type $v6-address (eq $v6-address-type)))
    (type $v4-type (record (field "port" u16) (field "address" $v4-address)))
    (export "ipv4-socket-address" (type $v4 (eq $v4-type)))
    (type $v6-type (record (field "port" u16) (field "flow-info" u32) (field "address" $v6-address)
      (field "scope-id" u32)))
    (export "ipv6-socket-address" (type $v6 (eq $v6-type)))
    (type $address-type (variant (case "ipv4" $v4) (case "ipv6" $v6)))
    (export "ip-socket-address" (type $address (eq $address-type)))))
  (alias export $network "network" (type $network-type))
  (alias export $network "error-code" (type $error-code))
  (alias export $network "ip-address-family" (type $address-family))
  (alias export $network "ip-socket-address" (type $socket-address))
  (import "wasi:sockets/instance-network@0.2.0" (instance $instance-network
    (alias outer 1 $network-type (type $outer-network))
    (export "network" (type $network (eq $outer-network)))
    (export "instance-network" (func (result (own $network))))))
  (import "wasi:sockets/tcp@0.2.0" (instance $tcp
    (alias outer 1 $network-type (type $outer-network))
    (export "network" (type $network (eq $outer-network)))
    (alias outer 1 $error-code (type $outer-code))
    (export "error-code" (type $code (eq $outer-code)))
    (alias outer 1 $socket-address (type $outer-address))
    (export "ip-socket-address" (type $address (eq $outer-address)))
    (export "tcp-socket" (type $socket (sub resource)))
    (export "[method]tcp-socket.start-connect" (func (param "self" (borrow $socket)) (param "network" (borrow $network))
      (param "remote-address" $address) (result (result (error $code)))))))
  (alias export $tcp "tcp-socket" (type $socket-type))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
    (alias outer 1 $socket-type (type $outer-socket))
    (export "tcp-socket" (type $socket (eq $outer-socket)))
    (alias outer 1 $error-code (type $outer-code))
    (export "error-code" (type $code (eq $outer-code)))
    (alias outer 1 $address-family (type $outer-family))
    (export "ip-address-family" (type $family (eq $outer-family)))
    (export "create-tcp-socket" (func (param "address-family" $family)
      (result (result (own $socket) (error $code)))))))
  (core module $memory-module (memory (export "memory") 1))
  (core instance $m (instantiate $memory-module))
  (alias core export $m "memory" (core memory $memory))
  (core func $the-network (canon lower (func $instance-network "instance-network")))
  (core func $socket (canon lower (func $create "create-tcp-socket") (memory $memory)))
  (core func $connect (canon lower (func $tcp "[method]tcp-socket.start-connect") (memory $memory)))

  (core module $main
    (import "host" "memory" (memory 1))
    (import "host" "network" (func $network (result i32)))
    (import "host" "socket" (func $socket (param i32 i32)))
    (import "host" "connect" (func $connect (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    ;; 1 if the node lets it try.
    (func $reaches (param $a i32) (param $b i32) (param $c i32) (param $d i32) (param $port i32) (result i32)
      (call $socket (i32.const 0) (i32.const 16))
      (if (i32.load8_u (i32.const 16)) (then (return (i32.const 0))))
      (call $connect (i32.load (i32.const 20)) (call $network)
        ;; An IPv4 address; an IPv6 address would need the rest.
        (i32.const 0) (local.get $port) (local.get $a) (local.get $b) (local.get $c) (local.get $d)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 32))
      (i32.eqz (i32.load8_u (i32.const 32))))
    (func (export "run") (result i32)
      (i32.or
        (call $reaches (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 10250))
        (call $reaches (i32.const 169) (i32.const 254) (i32.const 169) (i32.const 254) (i32.const 80)))))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory))
    (export "network" (func $the-network))
    (export "socket" (func $socket))
    (export "connect" (func $connect))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.3" (instance $command)))
