;; A correct policy by hand, with holes for misbehaviour. The standard rules: every phase counts as itself.
;;
;; {evil} decides about an instant on the stack; {enter} and {columns} run in the answer to an evil question. The answer is built at 1024:
;; a result's discriminant, then at 8 (a tracker) or 4 (columns) what the contract says. Values that are answered as they are lie in an
;; image, and the answer to a request whose span begins at the evil instant has a hole of its own.
(module
  (memory (export "cabi_memory") (export "memory") 1)
  (global $heap (mut i32) (i32.const {heap}))
  {image}

  (func $evil (param $at i64) (result i32) {evil})
  (func $recurse (param $n i64) (result i64) (i64.add (call $recurse (i64.add (local.get $n) (i64.const 1))) (local.get $n)))

  (func $realloc (export "cabi_realloc") (param $old i32) (param $was i32) (param $align i32) (param $size i32) (result i32)
    (local $start i32)
    (local.set $start
      (i32.and (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1))) (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $start) (local.get $size)))
    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1))))))
    (local.get $start))

  ;; accounting

  (func $total (param $totals i32) (param $phase i32) (param $passed i64)
    (local $place i32)
    (local.set $place (i32.add (local.get $totals) (i32.mul (local.get $phase) (i32.const 8))))
    (i64.store (local.get $place) (i64.add (i64.load (local.get $place)) (local.get $passed))))

  (func $totals (param $to i32) (param i64 i64 i64 i64 i64 i64 i64 i64)
    (i64.store offset=0 (local.get $to) (local.get 1)) (i64.store offset=8 (local.get $to) (local.get 2))
    (i64.store offset=16 (local.get $to) (local.get 3)) (i64.store offset=24 (local.get $to) (local.get 4))
    (i64.store offset=32 (local.get $to) (local.get 5)) (i64.store offset=40 (local.get $to) (local.get 6))
    (i64.store offset=48 (local.get $to) (local.get 7)) (i64.store offset=56 (local.get $to) (local.get 8)))

  (func (export "{accounting}#enter")
    (param $some i32) (param $current i32) (param $since i64) (param i64 i64 i64 i64 i64 i64 i64 i64) (param $to i32) (param $at i64)
    (result i32)
    (call $totals (i32.const 1048) (local.get 3) (local.get 4) (local.get 5) (local.get 6) (local.get 7) (local.get 8) (local.get 9) (local.get 10))
    (if (local.get $some)
      (then (call $total (i32.const 1048) (local.get $current) (i64.sub (local.get $at) (local.get $since)))))
    (i32.store8 (i32.const 1024) (i32.const 0))
    (i32.store8 (i32.const 1032) (i32.const 1))
    (i32.store8 (i32.const 1033) (local.get $to))
    (i64.store (i32.const 1040) (local.get $at))
    (if (call $evil (local.get $at)) (then {enter}))
    (i32.const 1024))

  (func (export "{accounting}#snapshot")
    (param $some i32) (param $current i32) (param $since i64) (param i64 i64 i64 i64 i64 i64 i64 i64) (param $at i64)
    (result i32)
    (call $totals (i32.const 1032) (local.get 3) (local.get 4) (local.get 5) (local.get 6) (local.get 7) (local.get 8) (local.get 9) (local.get 10))
    (if (local.get $some)
      (then (call $total (i32.const 1032) (local.get $current) (i64.sub (local.get $at) (local.get $since)))))
    (i32.store8 (i32.const 1024) (i32.const 0))
    (i32.const 1024))

  ;; Adds the visit under way of item $i, whose `since` and list of totals the question at $q has.
  (func $advance (param $q i32) (param $i i32) (param $at i64)
    (local $current i32)
    (local.set $current (i32.load8_u (i32.add (i32.load (local.get $q)) (local.get $i))))
    (if (i32.ne (local.get $current) (i32.const 255))
      (then (call $total
        (i32.load offset=16 (i32.add (local.get $q) (i32.mul (local.get $current) (i32.const 8))))
        (local.get $i)
        (i64.sub (local.get $at)
          (i64.load (i32.add (i32.load offset=8 (local.get $q)) (i32.mul (local.get $i) (i32.const 8)))))))))

  (func (export "{accounting}#enter-all") (param $q i32) (result i32)
    (local $i i32) (local $n i32) (local $at i64) (local $evil i32)
    (local.set $n (i32.load offset=4 (local.get $q)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (local.set $at (i64.load (i32.add (i32.load offset=88 (local.get $q)) (i32.mul (local.get $i) (i32.const 8)))))
      (local.set $evil (i32.or (local.get $evil) (call $evil (local.get $at))))
      (call $advance (local.get $q) (local.get $i) (local.get $at))
      (i32.store8
        (i32.add (i32.load (local.get $q)) (local.get $i))
        (i32.load8_u (i32.add (i32.load offset=80 (local.get $q)) (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (i32.store (i32.const 1024) (i32.const 0))
    (memory.copy (i32.const 1028) (local.get $q) (i32.const 80))
    (i32.store (i32.const 1036) (i32.load offset=88 (local.get $q)))
    (if (local.get $evil) (then {columns}))
    (i32.const 1024))

  (func (export "{accounting}#snapshot-all") (param $q i32) (result i32)
    (local $i i32) (local $n i32)
    (local.set $n (i32.load offset=4 (local.get $q)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (call $advance (local.get $q) (local.get $i) (i64.load offset=80 (local.get $q)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (i32.store (i32.const 1024) (i32.const 0))
    (memory.copy (i32.const 1028) (i32.add (local.get $q) (i32.const 16)) (i32.const 64))
    (i32.const 1024))

  ;; metering

  (func (export "{metering}#describe") (result i32) (i32.const {description}))

  (func $measured (param $terms i32) (param $count i32) (param $masks i32) (param $n i32)
    (i32.store (i32.const 1024) (i32.const 0))
    (i32.store (i32.const 1028) (local.get $terms)) (i32.store (i32.const 1032) (local.get $count))
    (i32.store (i32.const 1036) (local.get $masks)) (i32.store (i32.const 1040) (local.get $n))
    (i64.store align=4 (i32.const 1044) (i64.const 0)))

  ;; The first meter counts every interval: the phases are the list at 40, and the span begins at 8.
  (func (export "{metering}#measure") (param $request i32) (result i32)
    (local $n i32) (local $i i32) (local $masks i32)
    (local.set $n (i32.load offset=44 (local.get $request)))
    (local.set $masks
      (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $n) (i32.const 8))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (i64.store (i32.add (local.get $masks) (i32.mul (local.get $i) (i32.const 8))) (i64.const 1))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (call $measured {terms} (local.get $masks) (local.get $n))
    (if (i64.eq (i64.load offset=8 (local.get $request)) (i64.const {evil-span-start})) (then {measure}))
    (i32.const 1024)))
