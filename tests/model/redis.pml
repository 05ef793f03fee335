/* One monitor's keys in Redis, and the scripts that change them: one inline for each .lua file, with the same guards.
 *
 * A tick is the length of a lease. Times are relative (ticks from now), so time never ends and the model is finite.
 */

#define HALF (PERIOD / 2)  /* PERIOD 4 is 20 s, the shortest there is; 2 keeps the model small */
#define OUR_LEASE 1
#define GO_LEASE 2
#define OUT 7              /* not in the set; no time comes near it */
#define NOBODY 2
#define DEAD 3             /* a node that crashed: it comes back with another id */

/* The grid: slots are where pos is 0. */
#define NEXT_SLOT (HALF + (2 * PERIOD - pos - HALF) % PERIOD)   /* the first one >= now + PERIOD / 2 */
#define SLOT_FROM_NOW ((PERIOD - pos) % PERIOD)
#define NEXT_MULTIPLE (PERIOD - pos)                            /* a Go node's, always later than now */
#define ON_GRID ((pos + due) % PERIOD == 0)

/* The fences. Each can be removed, to see that the properties notice. */
#ifdef NO_TOKEN
#define MINE(me) true
#else
#define MINE(me) (lease != OUT && lease_token == token[me])
#endif
#ifdef NO_LEADER
#define LEADS(me) true
#else
#define LEADS(me) (leader == me)
#endif
#ifdef NO_TOMBSTONE
#define BURIED false
#else
#define BURIED tombstone
#endif
#ifdef NO_REVOKE
#define REVOKES(is_edit) false
#else
#define REVOKES(is_edit) (is_edit)
#endif
#ifdef NO_RECLAIM
#define RECLAIMS false
#else
#define RECLAIMS true
#endif
#ifdef ANY_LEADER
#define ONLY_ONE_LEADER(me) skip
#else
#define ONLY_ONE_LEADER(me) assert(last_taker == me)   /* only one leader's writes take effect */
#endif

#ifdef WORKER
#define TASK_PLACED task = PENDING
#else
#define TASK_PLACED skip                /* it is done at once */
#endif

mtype:task = { NONE, PENDING, RUNNING, STUCK }   /* archived, or left by a dead worker */
mtype:row = { NO_CLAIM, UNREAD, FOUND, GONE, CACHED, UNKNOWN }

/* Redis */
byte pos = 0;                     /* where in the period the clock is */
byte due = 0;                     /* ticks until the monitor is due; OUT if it is not in the set */
byte lease = OUT;                 /* ticks until its claim expires; OUT if it is not in the set */
byte lease_token = 0;             /* 0 is a Go node's, which nobody checks */
byte leader = NOBODY;
bool leader_fresh = false;        /* the leader key was written within this tick */
bool tombstone = false;
mtype:task task = NONE;
bool epoch_lost = false;          /* the epoch is not the one that the last leader wrote */

/* Peekaping's database */
bool wanted = true;               /* the row is there, and active */

/* What the claims in flight hold. Two of them are two nodes, or two batches of one. */
byte token[2] = 0;
mtype:row row[2] = NO_CLAIM;

/* Ghosts: only the properties read them */
bool old[2] = false;              /* the row was changed after this claim read it */
bool spent[2] = false;            /* since this claim was made, a task was placed for its slot or a later one */
byte since = HALF;                /* ticks since the last task, HALF at most */
bool exempt = false;              /* the next check may be early: run-now, an edit, lost data, a Go node */
bool handled = false;             /* after an event, a leader has acted on the row as it is now */
byte last_taker = NOBODY;         /* the node that took the newest term */

/* The calm */
bool calm = false;                /* the faults are over: every step that can be taken is taken within its tick */
byte waited = 0;                  /* ticks of calm */
bool sweep_owed[2] = false;       /* a leader has yet to sweep in this calm; before it, a sweep may begin at any time */

/* Returns a token that no other claim has: the counter and the time in lease.lua. */
inline fresh_token(me)
{
  token[me] = 1;
  do
  :: token[me] == token[1 - me] || token[me] == lease_token || token[me] == TOKEN_IN_BACKUP -> token[me]++
  :: else -> break
  od
}

inline forget_claim(me)
{
  row[me] = NO_CLAIM; token[me] = 0; old[me] = false; spent[me] = false
}

/* claim.lua, claim_ids.lua: guarded by due == 0 */
inline claim_lua(me)
{
  fresh_token(me);
  lease_token = token[me]; lease = OUR_LEASE; due = OUT;
  row[me] = UNREAD
}

/* place() of task.lua */
inline place(me)
{
  if
  :: task == RUNNING
  :: else ->
     assert(!spent[me]);                               /* no slot twice */
     assert(since == HALF || exempt);                  /* nor two checks within half a period */
     assert(!handled || wanted);                       /* no task for a deleted monitor */
     assert(!handled || row[me] == CACHED || !old[me]);/* nor one with the row from before the edit */
     TASK_PLACED;
     since = 0; exempt = false;
     spent[0] = row[0] != NO_CLAIM; spent[1] = row[1] != NO_CLAIM
  fi;
  calm = false; waited = 0; sweep_owed[0] = false; sweep_owed[1] = false
}

/* withdraw() of task.lua */
inline withdraw()
{
  if
  :: task == PENDING -> task = NONE
  :: else
  fi
}

/* settle.lua: the order follows from the row that was read (dispatch/plan.py) */
inline settle_lua(me)
{
  if
  :: !MINE(me) ->                                      /* lost */
     if
     :: lease == OUT && due == OUT && !tombstone ->    /* vanished */
        sweep_owed[0] = leads[0] && calm; sweep_owed[1] = leads[1] && calm
     :: else
     fi
  :: else ->
     if
     :: row[me] == CACHED && BURIED                    /* dropped */
     :: row[me] == FOUND || row[me] == CACHED && !(BURIED) -> place(me); due = NEXT_SLOT
     :: row[me] == GONE -> withdraw()
     :: row[me] == UNKNOWN -> due = 1                  /* released */
     fi;
     lease = OUT; lease_token = 0
  fi
}

/* reclaim.lua: guarded by lease == 0 */
inline reclaim_lua()
{
  if
  :: due == OUT -> due = 0
  :: else                                              /* NX */
  fi;
  lease = OUT; lease_token = 0
}

/* schedule.lua */
inline schedule_lua(me, is_edit, at_once)
{
  ONLY_ONE_LEADER(me);
  if
  :: due != OUT ->
     if
     :: REVOKES(is_edit) -> lease = OUT; lease_token = 0
     :: else
     fi;
     if
     :: is_edit && due > 0 && !ON_GRID -> due = NEXT_SLOT
     :: else
     fi
  :: due == OUT && lease == OUT ->
     due = (at_once -> 0 : SLOT_FROM_NOW); exempt = true
  :: due == OUT && lease != OUT && REVOKES(is_edit) ->
     due = 0; lease = OUT; lease_token = 0; exempt = true
  :: else
  fi;
  tombstone = false
}

/* remove.lua */
inline remove_lua(me)
{
  ONLY_ONE_LEADER(me);
  lease = OUT; lease_token = 0;
  due = OUT;
  tombstone = true;
  withdraw()
}

/* run_now.lua */
inline run_now_lua()
{
  if
  :: lease == OUT -> due = 0; exempt = true
  :: else
  fi
}

/* take.lua: guarded by leader == NOBODY || leader == me */
inline take_lua(me)
{
  leader = me; leader_fresh = true; epoch_lost = false;
  last_taker = me
}

/* extend.lua: guarded by leader == me && !epoch_lost */
inline extend_lua(me)
{
  leader_fresh = true
}

/* resign.lua: guarded by leader == me */
inline resign_lua(me)
{
  leader = NOBODY; leader_fresh = false
}
