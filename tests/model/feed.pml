/* SPDX-License-Identifier: MIT */
/*
 * Slots, deaths, reconnecting: who may have a slot, when it is written, and that nobody waits for ever. Checked exhaustively by
 * run.sh. lane.pml has the lane word by word; here taking, returning, revoking and waking are single steps of one memory. What is
 * modelled is daemon/slot.c, slot_obtain.c (rules 1 and 3, slot_held_back), feed_turn and feed_arm of feed.c, and the ends of
 * daemon/consumer.c, with a worker, and DESIGN.md's reconnect: each rank states its own next step and is served at once.
 *
 * The ranks are of one job and step together: a rank takes up to HELD batches and then stands in an all-reduce with the others
 * before it returns the oldest. With -DALONE they are a job each: nobody waits for another, batches go back in any order.
 *   -DKILL      the daemon is killed once, anywhere between two steps of its turn (between two grants, say, so that one rank holds
 *               two batches and stands in the all-reduce, and the other has none), its worker in the middle of a slot. A new one
 *               starts with an arena of its own; ranks find out when they next need a batch, having taken all that was granted.
 *   -DMORTAL    (with ALONE) the last rank may at any time be killed; or hang up, go on reading what it holds, and end later or
 *               never; or return a batch twice, be dropped for it, go on reading, and end later or never.
 *   -DFILL_FOR_ALL=false   a slot gets the rows of the ranks that are attached only, not (mark_wanted) of all of its job
 *
 * Properties: the assertions; no invalid end state.
 *   - a slot is not written while a rank reads it, in whichever arena: from the take until it begins to return it or dies
 *   - a rank is given its steps one by one, from 0, across daemons; each slot has that step's rows, from the take until the return
 *   - all ranks but killed ones get to the end: no grant is lost, nobody waits for ever. A wake-up is what the code makes one:
 *     takes and returns ring only where feed_arm has asked for it.
 *
 * Left out: numbers (a grant is known by its step), epochs, rows but for which ranks have theirs in a slot, warm slots, gang, skip,
 * park, several workers. The order in which consumers are looked at is either one.
 *
 * Where the daemon may still be killed it is never at its end, so that a deadlock shows only after that; each is searched
 * without KILL, too; likewise MORTAL.
 *
 * Seeded bugs, -DBUG=n: 1 a slot is used again when all cursors are past it, whether or not its grants are back; 3 a return that
 * is not out (a double one) is believed; 4 a drop or hang-up counts as death; 5 after a restart there are no grants until all ranks
 * are back.
 */
#ifndef BUG
#define BUG 0
#endif
#ifndef RANKS
#define RANKS 2
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef HELD
#define HELD 1 /* max_held */
#endif
#ifndef STEPS
#define STEPS 3
#endif
#ifndef FILL_FOR_ALL
#define FILL_FOR_ALL true
#endif
#ifdef KILL
#define KILLED if :: true :: generation == 0 -> goto dies fi
#else
#define KILLED skip
#endif
#ifdef ALONE
#define TOGETHER false
#else
#define TOGETHER true
#endif
#define LAST_RANK (RANKS - 1)

#define AT(r, k)   ((r) * STEPS + (k))
#define ROWS(g, s) ((g) * SLOTS + (s))

/* ---- what outlives the daemon ---------------------------------------------------------------------------------------- */

byte generation; /* of the daemon */
bool alive;
byte rows[2 * SLOTS]; /* each generation's arena: step + 1, 0 while it is being written */
byte reading[2 * SLOTS];

/* A rank's lane. Grants are those of steps taken .. cursor - 1; entry says in which slot. */
byte lane[RANKS]; /* generation + 1 of the daemon that it is of; 0: none */
byte taken[RANKS], cursor[RANKS];
byte entry[RANKS * STEPS];
bool closed[RANKS]; /* by a living daemon */
bool armed[RANKS], news[RANKS];
chan returns[RANKS] = [SLOTS + 1] of { byte };

/* What the kernel and the control socket tell the daemon. */
bool dirty; /* something has come */
bool joining[RANKS], hung_up[RANKS], ended[RANKS];
byte next_step[RANKS];

byte arrived[RANKS]; /* in the all-reduce: after so many steps */
bool doubled;        /* somebody has returned a batch twice */

/* ---- the daemon's own memory ----------------------------------------------------------------------------------------- */

mtype = { FREE, WANTED, IN_WORK, WRITTEN, READY }; /* the three in the middle are FILLING */

mtype slot_state[SLOTS] = FREE;
byte slot_step[SLOTS], slot_mask[SLOTS], slot_grants[SLOTS];
bool attached[RANKS], started;
bool out[RANKS * STEPS]; /* the ledger */
byte n_out[RANKS];
bool had_untaken[RANKS], held_back[RANKS];
byte ahead_at[RANKS];
byte n_wanted;
bool flip;

#define RUNS(c) (attached[c] && started && cursor[c] < STEPS)
#define HOLDS(c) (n_out[c] - (cursor[c] - taken[c])) /* how many */

#define LANE_LIVES(r) (alive && lane[r] == generation + 1)

/* ---- the worker ------------------------------------------------------------------------------------------------------ */

active proctype worker()
{
    byte s, born, others;

end:
    do
    :: atomic {
        alive && n_wanted > 0 -> /* any one */
        others = n_wanted - 1;
        do
        :: slot_state[s] == WANTED -> break
        :: slot_state[s] == WANTED && others > 0 -> others--; s++
        :: slot_state[s] != WANTED -> s++
        od;
        others = 0;
        n_wanted--;
        born = generation;
        slot_state[s] = IN_WORK;
        assert(reading[ROWS(born, s)] == 0);
        rows[ROWS(born, s)] = 0
    }
        atomic {
            if
            :: alive && born == generation ->
                assert(reading[ROWS(born, s)] == 0);
                rows[ROWS(born, s)] = slot_step[s] + 1;
                slot_state[s] = WRITTEN;
                dirty = true
            :: else /* it died with its daemon */
            fi;
            s = 0;
            born = 0
        }
    od
}

/* ---- the daemon ------------------------------------------------------------------------------------------------------ */

inline release_slots()
{
    s = 0;
    do
    :: s < SLOTS ->
        x = 0; /* cursors that pin it */
        c = 0;
        do
        :: c < RANKS ->
            if
            :: attached[c] && started && cursor[c] <= slot_step[s] && slot_step[s] - cursor[c] <= SLOTS &&
               (slot_mask[s] >> c & 1) -> x++
            :: else
            fi;
            c++
        :: else -> break
        od;
        if
        :: x == 0 && (BUG == 1 || slot_grants[s] == 0) && (slot_state[s] == WANTED || slot_state[s] == READY) ->
            n_wanted = n_wanted - (slot_state[s] == WANTED -> 1 : 0);
            slot_state[s] = FREE;
            slot_step[s] = 0;
            slot_mask[s] = 0
        :: else
        fi;
        s++
    :: else -> break
    od;
    x = 0;
    c = 0;
    s = 0
}

/* The grant of c's step x is out no more. */
inline settle()
{
    assert(slot_grants[entry[AT(c, x)]] > 0 || BUG == 1 || BUG == 3);
    slot_grants[entry[AT(c, x)]] = slot_grants[entry[AT(c, x)]] - (slot_grants[entry[AT(c, x)]] > 0 -> 1 : 0);
    n_out[c] = n_out[c] - (out[AT(c, x)] -> 1 : 0);
    out[AT(c, x)] = false
}

/* All of c's that nobody took. */
inline revoke()
{
    do
    :: cursor[c] > taken[c] -> cursor[c]--; x = cursor[c]; settle(); entry[AT(c, x)] = 0
    :: else -> break
    od;
    x = 0
}

inline settle_all()
{
    x = 0;
    do
    :: x < STEPS ->
        if
        :: out[AT(c, x)] -> settle()
        :: else
        fi;
        x++
    :: else -> break
    od;
    x = 0
}

/* broken: a return was of nothing that is out. */
inline drain()
{
    broken = false;
    do
    :: returns[c]?x ->
        if
        :: out[AT(c, x)] && x < taken[c] -> settle()
        :: else ->
            if
            :: BUG == 3 -> settle()
            :: else -> broken = true
            fi
        fi
    :: empty(returns[c]) -> break
    od;
    x = 0
}

/* Hung up, dropped or ended. */
inline leave()
{
    closed[c] = true;
    armed[c] = false;
    attached[c] = false;
    if
    :: ended[c] || BUG == 4 -> settle_all(); cursor[c] = taken[c]
    :: else -> revoke() /* quarantined: what it took stays out */
    fi
}

inline tell()
{
    c = 0;
    do
    :: c < RANKS ->
        if
        :: attached[c] ->
            drain();
            assert(!broken || BUG == 1 || (c == LAST_RANK && doubled));
            if
            :: broken || hung_up[c] || ended[c] -> leave()
            :: else
            fi;
            broken = false
        :: !attached[c] && ended[c] && n_out[c] > 0 -> settle_all() /* its pidfd */
        :: else
        fi;
        if
        :: joining[c] && !attached[c] ->
            joining[c] = false;
            attached[c] = true;
            lane[c] = generation + 1;
            taken[c] = next_step[c];
            cursor[c] = next_step[c];
            closed[c] = false;
            armed[c] = false;
            news[c] = false;
            do
            :: returns[c]?_ /* what went into the old lane */
            :: empty(returns[c]) -> break
            od
        :: else
        fi;
        c++
    :: else -> break
    od;
    s = 0;
    do
    :: s < SLOTS ->
        if
        :: slot_state[s] == WRITTEN -> slot_state[s] = READY
        :: else
        fi;
        s++
    :: else -> break
    od;
    /* The first start waits for all, a reconnect does not. */
    c = 0;
    do
    :: c < RANKS && attached[c] -> c++
    :: else -> break
    od;
    started = started || !TOGETHER || c == RANKS || (generation > 0 && BUG != 5);
    c = 0;
    release_slots()
}

/* s: the slot that has step k for rank c, or SLOTS. */
inline find(k)
{
    s = 0;
    do
    :: s < SLOTS && !(slot_state[s] != FREE && slot_step[s] == k && (slot_mask[s] >> c & 1)) -> s++
    :: else -> break
    od
}

inline grant(who)
{
    c = who;
    do
    :: RUNS(c) ->
        find(cursor[c]);
        if
        :: s < SLOTS && slot_state[s] == READY ->
            entry[AT(c, cursor[c])] = s;
            out[AT(c, cursor[c])] = true;
            slot_grants[s]++;
            n_out[c]++;
            cursor[c]++
        :: else -> break
        fi
    :: else -> break
    od;
    s = 0;
    c = 0
}

/* Rule 3, for c that has nothing: best is the slot that it may take, or SLOTS. Nothing is revoked yet. */
inline take_farthest()
{
    best = SLOTS;
    farthest = 0;
    s = 0;
    do
    :: s < SLOTS ->
        nearest = 255;
        o = 0;
        do
        :: o < RANKS ->
            if
            :: n_out[o] > 0 && out[AT(o, slot_step[s])] && entry[AT(o, slot_step[s])] == s && taken[o] > slot_step[s] ->
                nearest = 0 /* it holds it */
            :: else
            fi;
            if
            :: attached[o] && started && taken[o] <= slot_step[s] && slot_step[s] - taken[o] <= SLOTS &&
               (slot_mask[s] >> o & 1) ->
                x = slot_step[s] - taken[o] + (HOLDS(o) >= HELD -> 1 : 0);
                /* waits_for */
                x = (o != c && taken[o] < k && k - taken[o] <= SLOTS && !(TOGETHER && k - taken[o] <= HELD + 1) -> 0 : x);
                nearest = (x < nearest -> x : nearest)
            :: else
            fi;
            o++
        :: else -> break
        od;
        if
        :: slot_state[s] == READY && nearest > farthest -> farthest = nearest; best = s
        :: else
        fi;
        s++
    :: else -> break
    od;
    o = 0;
    s = 0;
    x = 0;
    nearest = 0;
    farthest = 0
}

/* clear_grants: what is out of best and was not taken in the meantime. */
inline evict()
{
    x = c;
    o = x;
    c = 0;
    do
    :: c < RANKS ->
        if
        :: out[AT(c, slot_step[best])] && entry[AT(c, slot_step[best])] == best ->
            assert(attached[c]); /* else its lane is unmapped */
            revoke()
        :: else
        fi;
        c++
    :: else -> break
    od;
    dirty = true;
    c = o;
    o = 0;
    if
    :: slot_grants[best] == 0 -> slot_state[best] = FREE
    :: else -> best = SLOTS
    fi
}

/* s becomes step k's. Rows for all ranks of the job. */
inline begin()
{
    assert(slot_state[s] == FREE && (slot_grants[s] == 0 || BUG == 1));
    slot_state[s] = WANTED;
    n_wanted++;
    slot_step[s] = k;
    slot_mask[s] = 0;
    o = 0;
    do
    :: o < RANKS ->
        if
        :: !TOGETHER || FILL_FOR_ALL || (attached[o] && cursor[o] <= k) -> slot_mask[s] = slot_mask[s] | (1 << o)
        :: else
        fi;
        o++
    :: else -> break
    od;
    o = 0;
    s = 0;
    best = SLOTS
}

/* slot_held_back, of c for k: x is 1. */
inline look_behind()
{
    x = 0;
    o = 0;
    do
    :: o < RANKS ->
        if
        :: !TOGETHER && o != c && RUNS(o) && taken[o] < cursor[c] && k - taken[o] > SLOTS && cursor[c] - taken[o] <= SLOTS + 1 ->
            x = 1
        :: else
        fi;
        o++
    :: else -> break
    od;
    o = 0
}

inline arm()
{
    c = 0;
    do
    :: c < RANKS ->
        armed[c] = attached[c] && n_out[c] > 0 && starving && n_wanted < 2;
        dirty = dirty || (armed[c] && (nempty(returns[c]) || (had_untaken[c] && taken[c] == cursor[c])));
        c++
    :: else -> break
    od;
    c = 0
}

active proctype daemon()
{
    byte c, s, x, o, k, i, ahead, nearest, farthest, best = SLOTS;
    bool broken, starving, any, evicting;

boot:
    atomic {
        if
        :: flip = false
        :: generation > 0 || !TOGETHER -> flip = true /* at first, ranks of one job are alike */
        fi;
        alive = true
    };
    goto end_idle;
turn:
    atomic { d_step { dirty = false; tell() }; KILLED };
    atomic { d_step { grant(flip) }; KILLED };
    atomic {
        d_step {
            grant(1 - flip);
            i = 2;
            do
            :: i < RANKS -> grant(i); i++
            :: else -> break
            od;
            i = 0;
            starving = false;
            any = false
        };
        KILLED
    };
wants:
    skip;
    d_step {
        do
        :: ahead < SLOTS && i < RANKS ->
            c = (flip && i < 2 -> 1 - i : i);
            i++;
            if
            :: RUNS(c) ->
                if
                :: ahead == 0 ->
                    had_untaken[c] = taken[c] < cursor[c];
                    held_back[c] = false;
                    ahead_at[c] = cursor[c]
                :: else -> ahead_at[c] = (ahead_at[c] < cursor[c] -> cursor[c] : ahead_at[c])
                fi;
                if
                :: !held_back[c] && ahead_at[c] < STEPS ->
                    any = true;
                    k = ahead_at[c];
                    ahead_at[c]++;
                    find(k);
                    if
                    :: s < SLOTS -> s = 0
                    :: else ->
                        look_behind();
                        s = 0;
                        do
                        :: s < SLOTS && slot_state[s] != FREE -> s++
                        :: else -> break
                        od;
                        if
                        :: x == 1 -> held_back[c] = true; starving = true; s = 0
                        :: x == 0 && s < SLOTS -> begin()
                        :: else ->
                            s = 0;
                            best = SLOTS;
                            if
                            :: ahead == 0 && taken[c] == cursor[c] && n_out[c] < HELD -> take_farthest()
                            :: else
                            fi;
                            if
                            :: best < SLOTS -> break
                            :: else ->
                                starving = true;
                                if
                                :: ahead > 0 -> break
                                :: else
                                fi
                            fi
                        fi;
                        x = 0;
                        best = SLOTS
                    fi
                :: else
                fi
            :: else
            fi
        :: ahead < SLOTS && i == RANKS ->
            if
            :: any -> any = false; i = 0; ahead++
            :: else -> break
            fi
        :: ahead == SLOTS -> break
        od;
        evicting = best < SLOTS; /* left in the middle */
        if
        :: !evicting ->
            any = false;
            i = 0;
            k = 0;
            c = 0;
            x = 0;
            ahead = 0
        :: else
        fi
    };
    if
    :: evicting ->
        /* Between its looking and this, somebody may have taken it. */
        d_step {
            evict();
            if
            :: best < SLOTS -> s = best; begin()
            :: else -> starving = true
            fi;
            best = SLOTS;
            x = 0;
            evicting = false
        };
        goto wants
    :: else
    fi;
    atomic { d_step { arm(); starving = false }; KILLED };
end_idle:
    if
    :: atomic { dirty -> goto turn }
#ifdef KILL
    :: generation == 0 -> goto dies
#endif
    fi;
#ifdef KILL
dies:
    skip;
    d_step {
        alive = false;
        generation++;
        dirty = false;
        started = false;
        n_wanted = 0;
        c = 0;
        s = 0;
        x = 0;
        i = 0;
        k = 0;
        starving = false;
        do
        :: c < RANKS ->
            attached[c] = false;
            joining[c] = false;
            armed[c] = false;
            n_out[c] = 0;
            had_untaken[c] = false;
            held_back[c] = false;
            ahead_at[c] = 0;
            do
            :: x < STEPS -> out[AT(c, x)] = false; x++
            :: else -> break
            od;
            x = 0;
            c++
        :: else -> break
        od;
        c = 0;
        do
        :: s < SLOTS -> slot_state[s] = FREE; slot_step[s] = 0; slot_mask[s] = 0; slot_grants[s] = 0; s++
        :: else -> break
        od;
        s = 0
    };
    goto boot
#endif
}

/* ---- a rank ---------------------------------------------------------------------------------------------------------- */

/* The batch of step k. */
inline give_back(k)
{
    x = held[k] - 1;
    assert(rows[x] == k + 1);
    reading[x]--;
    held[k] = 0;
    n_held--;
    if
    :: LANE_LIVES(r) && attached[r] && lane[r] == x / SLOTS + 1 ->
        returns[r]!k;
        news[r] = true;
        dirty = dirty || armed[r];
#ifdef MORTAL
        if
        :: true
        :: r == LAST_RANK && !doubled -> doubled = true; returns[r]!k
        fi
#endif
    :: else
    fi;
    x = 0
}

proctype rank(byte r)
{
    byte t, b, n_held, x; /* t: the next step to take; b: to return */
    byte held[STEPS];     /* 1 + the place of its rows */

join:
    atomic { alive -> joining[r] = true; next_step[r] = t; dirty = true; x = generation + 1 };
    if
    :: atomic { lane[r] == x -> x = 0 }
    :: atomic { lane[r] != x && generation + 1 != x -> x = 0; goto join } /* it died before it answered */
    fi;
take:
    if
    :: atomic {
        taken[r] < cursor[r] && !closed[r] ->
        assert(taken[r] == t);
        held[t] = ROWS(lane[r] - 1, entry[AT(r, t)]) + 1;
        taken[r]++;
        news[r] = true;
        reading[held[t] - 1]++;
        assert(rows[held[t] - 1] == t + 1);
        n_held++;
        t++;
        goto train
    }
    :: atomic {
        taken[r] == cursor[r] && !closed[r] && LANE_LIVES(r) ->
        if
        :: armed[r] && news[r] -> dirty = true; news[r] = false
        :: else
        fi
    }
    :: atomic { taken[r] == cursor[r] && !closed[r] && !LANE_LIVES(r) -> goto join }
    :: atomic { closed[r] -> goto linger }
    fi;
    if
    :: taken[r] < cursor[r] || closed[r] || !LANE_LIVES(r) -> goto take
#ifdef MORTAL
    :: r == LAST_RANK -> goto killed
#endif
    fi;
train:
    if
    :: t < STEPS && n_held < HELD -> goto take
    :: TOGETHER && b < t -> goto all_reduce
    :: atomic {
        !TOGETHER && n_held > 0 ->
        x = n_held - 1;
        do
        :: held[b] != 0 -> break
        :: held[b] != 0 && x > 0 -> x--; b++
        :: held[b] == 0 -> b++
        od;
        give_back(b);
        b = 0;
        goto train
    }
    :: t == STEPS && n_held == 0 -> goto killed /* its process ends */
#ifdef MORTAL
    :: r == LAST_RANK -> goto killed
    :: atomic { r == LAST_RANK -> hung_up[r] = true; dirty = true; goto linger }
#endif
    fi;
all_reduce:
    arrived[r] = b + 1;
    do
    :: atomic { x < RANKS && arrived[x] > b -> x++ }
    :: atomic { x == RANKS -> x = 0; break }
    od;
    atomic { give_back(b); b++; goto train };
linger: /* on its own, and reading */
    if
    :: true
    :: true ->
end_for_ever:
        false
    fi;
killed:
    skip;
    d_step {
        hung_up[r] = true;
        ended[r] = true;
        dirty = true;
        do
        :: x < STEPS ->
            if
            :: held[x] != 0 -> assert(rows[held[x] - 1] == x + 1); reading[held[x] - 1]--; held[x] = 0
            :: else
            fi;
            x++
        :: else -> break
        od;
        x = 0;
        b = 0;
        n_held = 0;
        t = 0
    }
}

init {
    byte r;

    atomic {
        do
        :: r < RANKS -> run rank(r); r++
        :: r == RANKS -> break
        od
    }
}
