/* The fleet: who takes the steps of redis.pml, what it remembers between two of them, and what can go wrong in between.
 *
 * Between any two steps of an actor the others may take any number of theirs: it may be paused anywhere, for any time.
 * Faults may happen any number of times. After any step the calm may begin: the faults are over, each step is taken
 * within its tick, and the next check must come within BOUND ticks. That check ends the calm.
 * test_model.py has the configurations: which actors and faults there are.
 */

#define SWEEP_EVERY 6      /* ticks: 30 s */

mtype:named = { NO_EVENT, NAMED, READING, AGAIN, READING_AGAIN }
mtype:seen = { NOT_READ, SAW_ACTIVE, SAW_NONE }
mtype:api = { IDLE, WRITTEN, ANNOUNCED }

/* What a leader's two readers have read and not yet acted on: the sweep, and the one that events ask for. */
bool leads[2] = false;            /* as far as the node knows */
mtype:seen swept[2] = NOT_READ;
mtype:seen event[2] = NOT_READ;
bool swept_overtaken[2] = false;  /* the other reader has acted since this one's read (invariant 10) */
bool event_overtaken[2] = false;
mtype:named named[2] = NO_EVENT;  /* how far the reads that an event asked for have got */
bool named_gone[2] = false;       /* the event says that the monitor is gone */
bool changed[2] = false;          /* the row was changed since the first read acted */
bool event_now[2] = false;        /* ghost: the row is still as it was read */

bool database[2] = true;          /* the node can read its database */
mtype:api api = IDLE;

#ifdef NO_LATER_READ
#define OVERTAKE(which) skip
#else
#define OVERTAKE(which) which##_overtaken[me] = which##_overtaken[me] || which[me] != NOT_READ
#endif
#ifdef ONE_READ
#define CAN_READ(me, which) (swept[me] == NOT_READ && event[me] == NOT_READ && database[me])
#else
#define CAN_READ(me, which) (which[me] == NOT_READ && database[me])
#endif
#ifdef UNREADABLE
#define GONE_COUNTS(gone) gone
#else
#define GONE_COUNTS(gone) false
#endif
#ifdef EVENTS
#define TO_PUBLISH WRITTEN
#else
#define TO_PUBLISH IDLE
#endif
#ifdef SWEEPS
#define LOSES_EVENTS true
#else
#define LOSES_EVENTS false            /* only a sweep would find what was lost */
#endif
#ifdef BACKUP
#define TOKEN_IN_BACKUP lease_token_then
#define NEW_EPOCH epoch_then = false
#else
#define TOKEN_IN_BACKUP 0
#define NEW_EPOCH skip
#endif

/* While another node has a healthy database, one without does not lead (leader/take.lua, leader/resign.lua). */
#define CAN_LEAD(me) (database[me] || LEADERS == 1 || !database[1 - me])

#include "redis.pml"

#ifdef BACKUP
byte due_then = 0, lease_then = OUT, lease_token_then = 0, leader_then = NOBODY, last_taker_then = NOBODY;
bool leader_fresh_then = false, tombstone_then = false, epoch_then = false;
mtype:task task_then = NONE;
#endif

/* One batch in flight, from its claim to its settle. A request that is lost on its way is a pause. */
proctype Dispatcher(byte me)
{
end:
  do
  :: d_step { row[me] == NO_CLAIM && due == 0 -> claim_lua(me) }
  :: d_step { row[me] != NO_CLAIM && !calm -> forget_claim(me) }   /* a lost reply, a crash; it has given up */
  :: d_step { row[me] == UNREAD && database[me] -> row[me] = (wanted -> FOUND : GONE) }
#ifdef OUTAGES
  :: d_step { row[me] == UNREAD && !database[me] -> row[me] = CACHED }
  :: d_step { row[me] == UNREAD && !calm -> row[me] = UNKNOWN }    /* neither read nor in the cache */
#endif
  :: d_step { row[me] != NO_CLAIM && row[me] != UNREAD -> settle_lua(me); forget_claim(me) }
  :: d_step { row[me] != NO_CLAIM && row[me] != UNREAD && !calm -> settle_lua(me) }  /* no reply: sent again */
  od
}

/* On any node. */
proctype Reclaim()
{
end:
  do
  :: d_step { lease == 0 && RECLAIMS -> reclaim_lua() }
  od
}

inline end_term(me)
{
  leads[me] = false; sweep_owed[me] = false;
  swept[me] = NOT_READ; swept_overtaken[me] = false;
  event[me] = NOT_READ; event_overtaken[me] = false; event_now[me] = false;
  named[me] = NO_EVENT; named_gone[me] = false; changed[me] = false
}

inline end_sweep(me)
{
  swept[me] = NOT_READ; swept_overtaken[me] = false; sweep_owed[me] = false
}

inline end_event_read(me)
{
  event[me] = NOT_READ; event_overtaken[me] = false; event_now[me] = false
}

inline act_on_event(me)
{
  OVERTAKE(swept);
  if
  :: LEADS(me) ->
     if
     :: event[me] == SAW_ACTIVE -> schedule_lua(me, named[me] != READING_AGAIN, true)
     :: else -> remove_lua(me)
     fi;
     handled = handled || event_now[me] && (named[me] != READING_AGAIN || event[me] == SAW_NONE)
  :: else                                              /* NotLeading */
  fi
}

proctype Leader(byte me)
{
end:
  do
#ifdef TERMS
  /* the term: leader/election.py */
  :: d_step { !leads[me] && (leader == NOBODY || leader == me) && CAN_LEAD(me) ->
       take_lua(me); NEW_EPOCH;
       leads[me] = true; sweep_owed[me] = calm }
  :: d_step { leads[me] && (!leader_fresh || leader != me || epoch_lost) ->
       if
       :: leader == me && !epoch_lost -> extend_lua(me); NEW_EPOCH
       :: else -> end_term(me)
       fi }
  :: d_step { leads[me] && (!calm || !CAN_LEAD(me)) -> /* SIGTERM, or a node with a healthy database can lead */
       if
       :: leader == me -> resign_lua(me)
       :: else
       fi;
       end_term(me) }
  :: d_step { leads[me] && !calm ->                    /* a crash, or the reply to the take was lost */
       leader = (leader == me -> DEAD : leader);
       end_term(me) }
#endif

#ifdef SWEEPS
  /* the sweep, one read of a page and one write: leader/sweep.py, leader/sync.py */
  :: d_step { leads[me] && (!calm || sweep_owed[me]) && CAN_READ(me, swept) ->
       swept[me] = (wanted -> SAW_ACTIVE : SAW_NONE) }
  :: d_step { swept[me] != NOT_READ && swept_overtaken[me] ->
       if
       :: swept[me] == SAW_ACTIVE -> swept[me] = (wanted -> SAW_ACTIVE : SAW_NONE); swept_overtaken[me] = false
       :: else -> end_sweep(me)
       fi }
  :: d_step { swept[me] == SAW_ACTIVE && !swept_overtaken[me] ->
       OVERTAKE(event);
       if
       :: LEADS(me) -> schedule_lua(me, false, false)
       :: else                                         /* NotLeading */
       fi;
       end_sweep(me) }
  :: d_step { swept[me] == SAW_ACTIVE && !swept_overtaken[me] && LEADS(me) && due == OUT && lease == OUT ->
       OVERTAKE(event);
       schedule_lua(me, false, true);                  /* one that counts as new */
       end_sweep(me) }
  :: d_step { swept[me] == SAW_NONE && !swept_overtaken[me] ->
       OVERTAKE(event);
       if
       :: LEADS(me) && (due != OUT || lease != OUT) -> remove_lua(me)
       :: else
       fi;
       end_sweep(me) }
#endif

#ifdef EVENTS
  /* the reads that an event asks for, at once and again later: leader/events.py, leader/event_queue.py */
  :: d_step { (named[me] == NAMED || named[me] == AGAIN && api != ANNOUNCED) && CAN_READ(me, event) ->
       named[me] = (named[me] == NAMED || changed[me] -> READING : READING_AGAIN); changed[me] = false;
       event[me] = (wanted -> SAW_ACTIVE : SAW_NONE);
       event_now[me] = true }
  :: d_step { event[me] != NOT_READ && event_overtaken[me] ->
       event[me] = (wanted -> SAW_ACTIVE : SAW_NONE);
       event_now[me] = true; event_overtaken[me] = false }
  :: d_step { event[me] != NOT_READ && !event_overtaken[me] ->
       act_on_event(me);
       if
       :: named[me] == READING -> named[me] = AGAIN; changed[me] = !event_now[me]
       :: named[me] == READING_AGAIN -> named[me] = NO_EVENT
       :: named[me] == NAMED                           /* another event came meanwhile */
       fi;
       end_event_read(me) }
  :: d_step { event[me] != NOT_READ && !event_overtaken[me] && !calm ->   /* its reply is lost: once more */
       act_on_event(me);
       changed[me] = named[me] == READING_AGAIN && !event_now[me];
       named[me] = (named[me] == READING_AGAIN -> AGAIN : NAMED);
       end_event_read(me) }
#ifdef UNREADABLE
  :: d_step { leads[me] && named_gone[me] ->           /* not read in time: on the strength of the event alone */
       OVERTAKE(swept);
       OVERTAKE(event);
       if
       :: LEADS(me) -> remove_lua(me); handled = handled && !wanted
       :: else
       fi;
       named_gone[me] = false }
#endif
#endif
  od
}

/* The API server writes a row and publishes an event, in either order. */

inline write_row(is_wanted)
{
  wanted = is_wanted;
  handled = false;
  old[0] = row[0] == FOUND || row[0] == GONE || row[0] == CACHED;
  old[1] = row[1] == FOUND || row[1] == GONE || row[1] == CACHED;
  event_now[0] = false; event_now[1] = false;
  changed[0] = named[0] == AGAIN;
  changed[1] = named[1] == AGAIN
}

inline publish(is_wanted)
{
  if
  :: leads[0] -> hear(0, is_wanted)
  :: LOSES_EVENTS || !leads[0]
  fi;
  if
  :: leads[1] -> hear(1, is_wanted)
  :: LOSES_EVENTS || !leads[1]
  fi
}

inline hear(i, is_wanted)
{
  d_step { named[i] = NAMED; named_gone[i] = GONE_COUNTS(!is_wanted); changed[i] = false }
}

proctype Api()
{
  bool after;
end:
  do
  :: d_step { api == IDLE && !calm -> write_row(!wanted); api = TO_PUBLISH }
  :: d_step { api == IDLE && !calm && wanted -> write_row(true); api = TO_PUBLISH }  /* edited, and still active */
#ifdef EVENTS
  :: atomic { api == WRITTEN -> publish(wanted); api = IDLE }
#endif
#ifdef EARLY_EVENTS
  :: atomic { api == IDLE && !calm -> after = !wanted; publish(!wanted); api = ANNOUNCED }
  :: atomic { api == IDLE && !calm && wanted -> after = true; publish(true); api = ANNOUNCED }
  :: d_step { api == ANNOUNCED -> write_row(after); after = false; api = IDLE }
#endif
  od
}

#ifdef WORKER
proctype Worker()
{
end:
  do
  :: d_step { task == PENDING -> task = RUNNING }
  :: d_step { task == RUNNING -> task = NONE }
  :: d_step { task == RUNNING && !calm -> task = STUCK }
  od
}
#endif

#ifdef RUN_NOW
/* Somebody asks for a check: the monitor was active when the command read it, however long ago that was. */
proctype RunNow()
{
end:
  do
  :: d_step { !calm -> run_now_lua() }
  od
}
#endif

#ifdef GO
/* A Go producer in its three steps, none of which is fenced; the third is two commands. */
proctype Go()
{
end:
  do
  :: d_step { !calm && due == 0 -> lease = GO_LEASE; lease_token = 0; due = OUT; exempt = true };
     if
     :: d_step { wanted ->
          if
          :: task == NONE -> TASK_PLACED; since = 0
          :: else                                      /* refused: the id is taken */
          fi;
          exempt = true };
        d_step { due = NEXT_MULTIPLE; exempt = true };
        d_step { lease = OUT; lease_token = 0; handled = handled && !wanted; exempt = true }
     :: !wanted                                        /* it stays in the lease */
     :: !calm                                          /* it crashed */
     fi
  od
}
#endif

#ifdef OUTAGES
/* One node loses its database, and gets it back; in the calm only if no other node can lead: then it stays. */
proctype Outages()
{
end:
  do
  :: d_step { !calm || LEADERS == 1 && !database[0] -> database[OUTAGES] = !database[OUTAGES] }
  od
}
#endif

#ifdef LOSS
/* Redis loses its data: all of it, one key, or what was written since a backup, which may be a replica that lagged. */

inline data_lost()
{
  exempt = true; handled = false;
  spent[0] = false; spent[1] = false
}

proctype Loss()
{
end:
  do
  :: d_step { !calm ->
       due = OUT; lease = OUT; lease_token = 0; tombstone = false; task = NONE;
       leader = NOBODY; leader_fresh = false; epoch_lost = true;
       data_lost() }
  :: d_step { !calm -> due = OUT; data_lost() }
  :: d_step { !calm -> lease = OUT; lease_token = 0; data_lost() }
  :: d_step { !calm -> tombstone = false; data_lost() }
#ifdef BACKUP
  :: d_step { !calm ->
       due_then = due; lease_then = lease; lease_token_then = lease_token; leader_then = leader;
       leader_fresh_then = leader_fresh; tombstone_then = tombstone; task_then = task;
       last_taker_then = last_taker; epoch_then = !epoch_lost }
  :: d_step { !calm ->
       due = due_then; lease = lease_then; lease_token = lease_token_then; leader = leader_then;
       leader_fresh = leader_fresh_then; tombstone = tombstone_then; task = task_then;
       last_taker = last_taker_then; epoch_lost = !epoch_then;
       data_lost() }
#endif
  od
}
#endif

inline passed(ticks)
{
  if
  :: ticks != OUT && ticks > 0 -> ticks--
  :: else
  fi
}

inline tick()
{
  pos = (pos + 1) % PERIOD;
  passed(due); passed(lease);
#ifdef BACKUP
  passed(due_then); passed(lease_then);
#endif
#ifdef TERMS
  if
  :: leader_fresh -> leader_fresh = false
  :: else -> leader = NOBODY
  fi;
#endif
  if
  :: since < HALF -> since++
  :: else
  fi
}

proctype Clock()
{
end:
  do
  :: d_step { !calm -> tick() }
  :: d_step { !calm -> calm = true }
  :: atomic { timeout ->
       if
       :: calm && waited < BOUND ->
          tick();
          waited++;
#ifdef SWEEPS
          if
          :: waited == SWEEP_EVERY -> sweep_owed[0] = leads[0]; sweep_owed[1] = leads[1]
          :: else
          fi
#endif
       :: calm && waited == BOUND ->                   /* no check lost for ever; what is gone is out of the schedule */
          assert(!wanted && due == OUT && lease == OUT)
       fi }
  od
}

/* What must hold between any two steps. */
proctype Judge()
{
end:
  do
  :: d_step { handled && wanted && due == OUT && lease == OUT ->
       assert(due != OUT || lease != OUT) }            /* no check lost */
  od
}

init {
  atomic {
#ifndef TERMS
    leads[0] = true; take_lua(0);
#endif
    run Clock(); run Judge(); run Api(); run Reclaim();
    run Dispatcher(0);
#if DISPATCHERS > 1
    run Dispatcher(1);
#endif
#ifdef WORKER
    run Worker();
#endif
    run Leader(0);
#if LEADERS > 1
    run Leader(1);
#endif
#ifdef RUN_NOW
    run RunNow();
#endif
#ifdef GO
    run Go();
#endif
#ifdef OUTAGES
    run Outages();
#endif
#ifdef LOSS
    run Loss()
#endif
  }
}

/* In the calm, time goes on: the actors never keep each other busy without end. */
ltl time_passes { !<>[] (calm && waited < BOUND) }
