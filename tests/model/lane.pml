/* SPDX-License-Identifier: MIT */
/*
 * The lane, word by word, with store buffers: two consumers, two slots, one daemon. Checked exhaustively by run.sh; feed.pml has
 * the rest (who may have a slot, deaths, reconnecting). What is modelled is proto/ring.h, daemon/consumer_ring.c (consumer_drain,
 * consumer_grant, consumer_revoke), feed_arm of daemon/feed.c, and client/wait.c with pfeed_done of client/batch.c.
 *
 * Memory: mem[] is what all see. Each process has a queue of its own stores, which leave it in order, at any later moment (a
 * flusher). A fence waits until the queue is empty, and so does a compare-and-swap. System calls do not: that is less than
 * kernels promise. The bell's fetch_add is a plain store here: its only writer is the daemon, and C11 orders a release RMW with no
 * later load. Each load of shared memory is a step of its own; stores and private work between two of them are one step, as
 * nobody can tell.
 *
 * Sleeping: a consumer sleeps on its bell without a time limit (client/wait.c looks again after 250 ms, which would hide a lost
 * wake-up), the daemon on its eventfds. So a lost wake-up is a deadlock: an invalid end state.
 *
 * Properties: the assertions; no invalid end state.
 *   - a grant that is taken is of the rank's very next step, and the slot has that step's rows: once, in order, none lost
 *   - a slot is not written, nor has it other bytes, from the take of a grant until its return
 *   - no honest consumer looks dishonest to consumer_drain
 *   - with -DDEATH, the daemon may die between any two of its stores: whatever it has published is still taken, and is whole
 *
 * Left out: workers (the daemon fills a slot at once; feed.pml has them), rows (a slot has one word: its step), the wrap of 64-bit
 * counts, wake_at more than one return ahead (it is not with two grants out), full rings (they have as many entries as there are
 * slots), spinning. Revocation is not slot_obtain.c's but comes at any time, REVOKES times. The ranks' lasts differ, so that one
 * may leave its last return behind and never call again. The fence in wait_take is without effect in this memory, as the
 * swap before it empties the queue, so that no seed removes it.
 *
 * Seeded bugs, -DBUG=n: 1 a slot is used again when the cursors are past it, whether or not its grants are back; 21 to 24 a fence
 * is missing (pf_grants_ring, pf_grants_sleepy, pf_returns_push, pf_returns_arm); 6 revocation stores `taken` without comparing.
 */
#ifndef BUG
#define BUG 0
#endif
#ifndef LAST0 /* steps of each consumer */
#define LAST0 3
#endif
#ifndef LAST1
#define LAST1 2
#endif
#ifndef HELD
#define HELD 1 /* max_held */
#endif
#ifndef REVOKES
#define REVOKES 1
#endif
#define N     2
#define SLOTS 2
#define RING  2
#define MAX   255 /* 2^64 - 1 */

/* Words of consumer c, then a word a slot. */
#define WORDS        10
#define PUBLISHED(c) ((c) * WORDS)
#define BELL(c)      ((c) * WORDS + 1)
#define WAKE_AT(c)   ((c) * WORDS + 2)
#define TAKEN(c)     ((c) * WORDS + 3)
#define RETURNED(c)  ((c) * WORDS + 4)
#define WAITING(c)   ((c) * WORDS + 5)
#define GRANT(c, n)  ((c) * WORDS + 6 + (n) % RING)
#define NUMBER(c, n) ((c) * WORDS + 8 + (n) % RING)
#define ROWS(s)      (N * WORDS + (s))

byte mem[N * WORDS + SLOTS];
chan daemon_stores = [4] of { byte, byte };
chan consumer_stores[N] = [3] of { byte, byte };

bool asleep[N];      /* in FUTEX_WAIT */
bool rung;           /* an eventfd's edge */
bool dead;           /* the daemon */
byte reading[SLOTS]; /* for the assertions: who has taken it and has not begun to give it back */

#define LAST(c) ((c) == 0 -> LAST0 : LAST1)

proctype flush_daemon()
{
    byte where, what;

end:
    do
    :: atomic {
        daemon_stores?where, what ->
        assert(where < ROWS(0) || reading[where - ROWS(0)] == 0);
        mem[where] = what;
        where = 0;
        what = 0
    }
    od
}

proctype flush_consumer(byte c)
{
    byte where, what;

end:
    do
    :: atomic {
        consumer_stores[c]?where, what ->
        mem[where] = what;
        where = 0;
        what = 0
    }
    od
}

/* ---- the daemon ----------------------------------------------------------------------------------------------------- */

/* Its own memory: never read back from what is shared. at is the cursor's step; out_* what is out, by number. */
byte at[N], published[N], tail[N], wake_at[N], n_out[N], bell[N];
byte out_number[N * RING], out_slot[N * RING], out_step[N * RING];
byte slot_step[SLOTS]; /* step + 1; 0: FREE */
byte slot_grants[SLOTS];
byte revokes = REVOKES;

#ifdef DEATH
#define STORE(where, what) if :: true -> daemon_stores!(where), (what) :: goto dies fi
#else
#define STORE(where, what) daemon_stores!(where), (what)
#endif
#define FENCE(bug) (BUG == (bug) || empty(daemon_stores))

/* Entry i of what is out of c comes back. */
inline settle(i)
{
    d_step {
        slot_grants[out_slot[c * RING + i]]--;
        if
        :: i == 0 ->
            out_number[c * RING] = out_number[c * RING + 1];
            out_slot[c * RING] = out_slot[c * RING + 1];
            out_step[c * RING] = out_step[c * RING + 1]
        :: else
        fi;
        out_number[c * RING + 1] = 0;
        out_slot[c * RING + 1] = 0;
        out_step[c * RING + 1] = 0;
        n_out[c]--
    }
}

/* s: the slot that has step, or SLOTS. */
inline find(step)
{
    s = 0;
    do
    :: s < SLOTS && slot_step[s] != step + 1 -> s++
    :: else -> break
    od
}

inline release_slots()
{
    s = 0;
    do
    :: s < SLOTS ->
        if
        :: slot_step[s] != 0 && (BUG == 1 || slot_grants[s] == 0) &&
           !(at[0] < LAST0 && at[0] < slot_step[s]) && !(at[1] < LAST1 && at[1] < slot_step[s]) -> slot_step[s] = 0
        :: else
        fi;
        s++
    :: else -> break
    od
}

inline drain(k)
{
    atomic { c = k; before = mem[TAKEN(c)] };
    x = mem[RETURNED(c)];
    atomic {
        y = (x != tail[c] -> mem[TAKEN(c)] : before);
        assert(y <= published[c] && x - tail[c] <= n_out[c]);
        do
        :: tail[c] != x ->
            s = mem[NUMBER(c, tail[c])];
            assert(s < y && n_out[c] > 0); /* it was taken */
            if
            :: out_number[c * RING] == s -> settle(0)
            :: else -> assert(n_out[c] == 2 && out_number[c * RING + 1] == s); settle(1)
            fi;
            tail[c]++
        :: else -> break
        od;
        y = (n_out[c] > 0 && out_number[c * RING] < before -> 1 : 0) +
            (n_out[c] > 1 && out_number[c * RING + 1] < before -> 1 : 0);
        assert(y <= HELD);
        before = 0;
        x = 0;
        y = 0;
        s = 0;
        c = 0
    }
}

/* Stores only: who reads them sees them when they leave the queue. */
inline grant(k)
{
    c = k;
    do
    :: at[c] < LAST(c) && n_out[c] < RING ->
        find(at[c]);
        if
        :: s == SLOTS -> break
        :: else
        fi;
        STORE(GRANT(c, published[c]), at[c] * SLOTS + s);
        STORE(PUBLISHED(c), published[c] + 1);
        out_number[c * RING + n_out[c]] = published[c];
        out_slot[c * RING + n_out[c]] = s;
        out_step[c * RING + n_out[c]] = at[c];
        n_out[c]++;
        slot_grants[s]++;
        published[c]++;
        at[c]++;
        any = true
    :: else -> break
    od;
    s = 0;
    if
    :: any -> bell[c]++; STORE(BELL(c), bell[c])
    :: else
    fi;
    c = 0
}

/* FUTEX_WAKE a moment after the load would be the same: it wakes those who slept by then, and they had set `waiting`. */
inline wake(k)
{
    if
    :: any && FENCE(21) -> any = false; asleep[k] = (mem[WAITING(k)] -> false : asleep[k])
    :: !any
    fi
}

/* What the cursors want next, the nearest first. */
inline fill()
{
    do
    :: x < N * SLOTS ->
        c = x % N;
        y = at[c] + x / N;
        find(y);
        if
        :: y < LAST(c) && s == SLOTS ->
            s = (slot_step[0] == 0 -> 0 : (slot_step[1] == 0 -> 1 : SLOTS));
            if
            :: s == SLOTS -> starving = true
            :: else ->
                slot_step[s] = y + 1;
                filled = true;
                assert(reading[s] == 0);
                STORE(ROWS(s), y + 1)
            fi
        :: else
        fi;
        x++
    :: else -> break
    od;
    c = 0;
    s = 0;
    x = 0;
    y = 0
}

/* All from y on, which was `taken` when the swap succeeded; before that it failed as often as it took. */
inline revoke()
{
    mem[TAKEN(c)] = published[c];
    do
    :: n_out[c] > 0 && out_number[c * RING + n_out[c] - 1] >= y ->
        at[c] = out_step[c * RING + n_out[c] - 1];
        settle(n_out[c] - 1)
    :: else -> break
    od;
    c = 0;
    y = 0;
    starving = false
}

inline arm(k)
{
    x = (n_out[k] > 0 && starving -> tail[k] + 1 : MAX);
    if
    :: x != wake_at[k] -> wake_at[k] = x; any = true; STORE(WAKE_AT(k), x)
    :: else
    fi
}

inline look_again(k)
{
    if
    :: any && FENCE(24)
    :: !any
    fi;
    any = false;
    again = again || (x != MAX && mem[RETURNED(k)] >= x);
    x = 0
}

proctype daemon()
{
    byte c, s, x, y, before;
    bool any, starving, filled, again;

turn:
    drain(0);
    drain(1);
    atomic { release_slots(); grant(0) };
    atomic { wake(0); grant(1) };
    atomic {
        wake(1);
        fill();
        if
        :: filled -> filled = false; starving = false; goto turn
        :: !filled && revokes > 0 && n_out[0] > 0 -> c = 0; revokes--
        :: !filled && revokes > 0 && n_out[1] > 0 -> c = 1; revokes--
        :: !filled -> goto idle
        fi
    };
#if BUG == 6
    y = mem[TAKEN(c)];
    atomic { empty(daemon_stores) -> revoke(); goto turn };
#else
    atomic { empty(daemon_stores) -> y = mem[TAKEN(c)]; revoke(); goto turn };
#endif
idle:
    atomic { arm(0) };
    atomic { look_again(0); arm(1) };
    atomic {
        look_again(1);
        starving = false;
        if
        :: again -> again = false; goto turn
        :: else
        fi
    };
end_idle:
    if
    :: atomic { rung -> rung = false; goto turn }
#ifdef DEATH
    :: goto dies
#endif
    fi;
#ifdef DEATH
dies:
    /* Its socket closes when all that it has stored can be seen. */
    atomic { empty(daemon_stores) -> dead = true }
#endif
}

/* ---- a consumer ----------------------------------------------------------------------------------------------------- */

#define C_FENCE(bug) (BUG == (bug) || empty(consumer_stores[c]))

proctype consumer(byte c)
{
    byte next, returned, step, rang, told_returned, told_next; /* as in struct pfeed; step is what it must see next */
    byte held_number[HELD], held_slot[HELD], held_step[HELD], n_held;
    byte x, y, bells;

next_batch:
    if
    :: atomic { step < LAST(c) && n_held < HELD && mem[PUBLISHED(c)] > next -> goto take }
    :: atomic { step < LAST(c) && n_held < HELD && mem[PUBLISHED(c)] <= next -> goto wait }
    :: atomic { n_held > 0 -> goto done }
    :: atomic { step == LAST(c) && n_held == 0 -> goto finished }
    fi;

take: /* pf_grants_take after its load of the cursor */
    x = mem[GRANT(c, next)];
    atomic {
        empty(consumer_stores[c]) ->
        if
        :: mem[TAKEN(c)] == next ->
            mem[TAKEN(c)] = next + 1;
            y = x % SLOTS;
            assert(x / SLOTS == step);
            assert(mem[ROWS(y)] == step + 1);
            reading[y]++;
            held_number[n_held] = next;
            held_slot[n_held] = y;
            held_step[n_held] = step;
            n_held++;
            next++;
            step++;
            x = 0;
            y = 0;
            if
            :: bells > 0 -> bells = 0; consumer_stores[c]!WAITING(c), 0
            :: else
            fi;
            goto next_batch
        :: else -> /* it was revoked */
            next = mem[TAKEN(c)];
            x = 0;
            if
            :: bells > 0 -> goto sleepy_look
            :: else -> goto next_look
            fi
        fi
    };

next_look:
    if
    :: atomic { mem[PUBLISHED(c)] > next -> goto take }
    :: atomic { mem[PUBLISHED(c)] <= next }
    fi;
wait: /* wait_take */
    if
    :: atomic {
        (returned != told_returned || next != told_next) && mem[WAKE_AT(c)] != MAX ->
        told_returned = returned;
        told_next = next
    };
        rung = true
    :: atomic { (returned == told_returned && next == told_next) || mem[WAKE_AT(c)] == MAX }
    fi;
sleepy:
    atomic { bells = mem[BELL(c)] + 1; consumer_stores[c]!WAITING(c), 1 };
sleepy_look:
    if
    :: atomic { C_FENCE(22) && mem[PUBLISHED(c)] > next -> goto take }
    :: atomic { C_FENCE(22) && mem[PUBLISHED(c)] <= next }
    fi;
    if
    :: atomic { mem[BELL(c)] + 1 == bells -> asleep[c] = true };
        if
        :: !asleep[c]
        :: dead
        fi
    :: atomic { mem[BELL(c)] + 1 != bells }
    fi;
    atomic { asleep[c] = false; bells = 0; consumer_stores[c]!WAITING(c), 0 };
    if
    :: atomic { mem[PUBLISHED(c)] > next -> goto take }
    :: atomic { mem[PUBLISHED(c)] <= next }
    fi;
    if
    :: atomic { !dead -> goto sleepy }
    :: atomic { dead && mem[PUBLISHED(c)] > next -> goto take } /* what it published with its last breath */
    :: atomic { dead && mem[PUBLISHED(c)] <= next -> goto gone }
    fi;

done:
    atomic {
        if
        :: x = 0
        :: n_held > 1 -> x = n_held - 1
        fi;
        assert(mem[ROWS(held_slot[x])] == held_step[x] + 1);
        reading[held_slot[x]]--;
        consumer_stores[c]!NUMBER(c, returned), held_number[x];
        returned++;
        consumer_stores[c]!RETURNED(c), returned;
        n_held--;
        held_number[x] = held_number[n_held];
        held_slot[x] = held_slot[n_held];
        held_step[x] = held_step[n_held];
        held_number[n_held] = 0;
        held_slot[n_held] = 0;
        held_step[n_held] = 0;
        x = 0
    };
    atomic {
        C_FENCE(23) ->
        if
        :: returned < mem[WAKE_AT(c)] || rang == mem[WAKE_AT(c)] -> goto next_batch
        :: else -> rang = mem[WAKE_AT(c)]
        fi
    };
    atomic { rung = true; told_returned = returned; told_next = next; goto next_batch };

gone:
    /* The daemon is dead: all that it had published and not revoked is taken; what is held stays whole. */
    atomic {
        assert(mem[TAKEN(c)] == mem[PUBLISHED(c)] && mem[PUBLISHED(c)] == next);
        do
        :: n_held > 0 -> n_held--; assert(mem[ROWS(held_slot[n_held])] == held_step[n_held] + 1)
        :: else -> break
        od
    };
finished:
    skip
}

init {
    atomic {
        wake_at[0] = MAX;
        wake_at[1] = MAX;
        mem[WAKE_AT(0)] = MAX;
        mem[WAKE_AT(1)] = MAX;
        run daemon();
        run flush_daemon();
        run flush_consumer(0);
        run flush_consumer(1);
        run consumer(0);
        run consumer(1)
    }
}
