#!lua
-- Append a batch to one execution: all of it, or nothing.
--
-- KEYS  stream of chunks, state hash, sorted set of idempotency keys
-- ARGV  1 producer  2 number  3 process  4 new epoch  5 owner  6 time of the newest update (s)  7 present time (s)
--       8 most updates  9 most bytes  10 ttl (ms)  11 record ttl (ms)  12 acknowledged epoch  13 acknowledged head
--       14 channel  15 channel of all executions  16 execution id  17 most bytes of a chunk in a notification
--       18 mode: '', 'end', 'release', 'keep' or 'take'  19 process that has to hold the run
--       20 live processes, joined by commas
--       21 number of the producer's last acknowledged batch, 0 if unknown
--       from 22 on, five of each segment: count, kind, idempotency key, run, records
-- A segment is one update, or several plain ones. Kinds: '' plain, 's' start, 'S' start of a run with a participant,
-- 'X' exclusive start of such a run, 'o' start of the first run, 'i' interrupted, 'h' prompt or answer, 'w' progress of
-- the workflow, 'p' progress, 'f<state>' final, 'u<usage>' an update that adds to the usage of the run.
-- A usage is 'input tokens,output tokens,total tokens,cost', with '-' for an unknown cost.
--
-- Fields of the state: e epoch, h head, l oldest, q last of the oldest chunk, b bytes, o owner, t started at,
-- u updated at, w time of the last extension of the expiry by the short way, s state, r run, p process that holds it,
-- f last final, fr sr pr records of final, start and progress, pt type of pr, n:<producer> its last batch, nc number of
-- these, us usage of the run, g:<run> guests, k '1' with idempotency keys, a '1' if the run stays open without its process,
-- 't' if it does not and was taken.
--
-- Modes: 'end' ends a run. 'release' ends it, or leaves it open without a process if it is interrupted or kept. 'keep'
-- marks a run as kept. 'take' makes this process the holder of a run that is interrupted or kept.
--
-- Returns {status, epoch, head, repeated, former process, former run, appended, time of the last start that was appended};
-- after 'take' the run. The last one is missing where no run began. Status: 0 appended, 1 known already,
-- 2 the run is refused, 3 the owner is refused, 4 the condition of the mode does not hold.

local stream, hash, idempotency = KEYS[1], KEYS[2], KEYS[3]
local producer, number, me = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local mode = ARGV[18]
local call = redis.call

local function notify(epoch, before, head, oldest, holder, started, usage, owner, records)
  local inline = records and #records <= tonumber(ARGV[17])
  local where = epoch .. ' ' .. before .. ' ' .. head .. ' '
  call('SPUBLISH', ARGV[14], where .. oldest .. ' ' .. (holder == '' and '-' or holder) .. ' ' .. started .. ' ' ..
    ((usage or '') == '' and '-' or usage) .. ' ' .. #owner .. ' ' .. (inline and '1 ' or '0 ') .. owner .. (inline and records or ''))
  call('PUBLISH', ARGV[15], where .. ARGV[16])
end

-- Return whether Redis lacks what it has acknowledged to this process: updates, or the producer's last batch. Another
-- producer may have appended since, so that the head alone does not show it.
local function lost(head, last)
  return tonumber(ARGV[13]) > head or (last and tonumber(string.match(last, '^%d+')) < tonumber(ARGV[21]))
end

-- The short way of most batches: plain updates of the open run, within the limits. Where it ends, nothing was written.
if #ARGV == 26 and ARGV[23] == '' and ARGV[24] == '' and mode == '' then
  local e, h, l, b, s, r, p, n, t, o, w, us = unpack(call('HMGET', hash, 'e', 'h', 'l', 'b', 's', 'r', 'p',
    'n:' .. producer, 't', 'o', 'w', 'us'))
  if e and s == 'running' and r == ARGV[25] and (r == '' or p == me) and n and (o or ARGV[5] == '')
    and not (ARGV[12] == e and lost(tonumber(h), n)) then
    if number <= tonumber(string.match(n, '^%d+')) then return {1, e, tonumber(h), 0, '', '', 0} end
    local count, records = tonumber(ARGV[22]), ARGV[26]
    local head, bytes = h + count, b + #records + 112 * count
    if head - l < tonumber(ARGV[8]) and bytes <= tonumber(ARGV[9])
      and call('XADD', stream, 'NOMKSTREAM', head .. '-0', 'n', count, 'r', records) then
      local now, keeps = tonumber(ARGV[7]), tonumber(ARGV[11])
      if math.abs(now - (w or 0)) > keeps / 100000 then  -- a clock may jump back
        call('PEXPIRE', hash, math.floor(keeps * 1.01))
        call('PEXPIRE', stream, math.floor(keeps * 1.01))
        call('PEXPIRE', idempotency, math.floor(keeps * 1.01))
        w = ARGV[7]
      end
      call('HSET', hash, 'h', head, 'b', bytes, 'u', ARGV[6], 'w', w, 'n:' .. producer, number .. ':' .. head)
      notify(e, h, head, l, p or '', t, us, o or '', records)
      return {0, e, head, 0, '', '', count}
    end
  end
end

local x = {}
local names = {'e', 'h', 'l', 'q', 'b', 'o', 's', 'r', 'p', 'f', 'pt', 'k', 'nc', 't', 'a', 'us', 'n:' .. producer}
local values = call('HMGET', hash, unpack(names))
for i, name in ipairs(names) do x[name] = values[i] end
local last = x['n:' .. producer]
local exists = x.e and true or false

if mode ~= '' then
  local open = x.s == 'running' or x.s == 'interrupted'
  if not exists or not open or (x.p or '') ~= ARGV[19] then return {4, x.e or '', 0, 0, '', '', 0} end
  local stays = x.s == 'interrupted' or x.a == '1'
  if mode == 'take' and not stays then return {4, x.e, 0, 0, '', '', 0} end
  if mode == 'keep' then
    call('HSET', hash, 'a', '1')
  elseif mode == 'take' or (mode == 'release' and stays) then
    if mode == 'take' then
      call('HSET', hash, 'p', me, 'a', x.a == '1' and '1' or 't')
    else
      call('HSET', hash, 'p', '')
    end
    call('SPUBLISH', ARGV[14], '')  -- readers have the former process
  end
  if mode == 'keep' or mode == 'take' or (mode == 'release' and stays) then
    return {0, x.e, tonumber(x.h), 0, '', x.r or '', 0}
  end
end

local adopts = false
if not exists then
  call('DEL', stream, idempotency)
  x = {e = ARGV[4], h = '0', l = '1', q = '0', b = '0', s = 'running', t = ARGV[7]}
  last, adopts = false, true
elseif ARGV[12] == x.e and lost(tonumber(x.h), last) then
  -- Redis has lost what it acknowledged: other readers may have positions that are assigned again now.
  x.e, adopts = ARGV[4], true
elseif mode == '' and last and number <= tonumber(string.match(last, '^%d+')) then
  return {1, x.e, tonumber(x.h), 0, '', '', 0}
end

if exists and tonumber(x.h) > 0 and call('EXISTS', stream) == 0 then  -- expired or evicted
  x.l, x.q, x.b = tostring(tonumber(x.h) + 1), '0', '0'
end
local head, oldest, state, run, holder = tonumber(x.h), tonumber(x.l), x.s, x.r or '', x.p or ''
local before, former_process, former_run = head, '', ''
local room = string.sub(ARGV[16], 1, 5) == 'room:'
local guests, left, refused = {}, {}, false
local renewed = exists and ARGV[12] ~= '' and ARGV[12] ~= x.e
local owner = ''
if not x.o and ARGV[5] ~= '' then owner = ARGV[5] end
local wrong_owner = x.o and ARGV[5] ~= '' and x.o ~= ARGV[5]

local function open() return run ~= '' and (state == 'running' or state == 'interrupted') end
local function is_guest(id)
  if left[id] then return false end
  return guests[id] or call('HEXISTS', hash, 'g:' .. id) == 1
end

-- Return the sum of two usages.
local function add_usage(one, other)
  local sum, cost = {}, nil
  for _, each in ipairs({one, other}) do
    local at = 0
    for number in string.gmatch(each, '[^,]+') do
      at = at + 1
      if at < 4 then
        sum[at] = (sum[at] or 0) + tonumber(number)
      elseif number ~= '-' then
        cost = (cost or 0) + tonumber(number)
      end
    end
  end
  return string.format('%.0f,%.0f,%.0f,%s', sum[1], sum[2], sum[3], cost and string.format('%.17g', cost) or '-')
end

local entries, chunk, count, size, repeated, kept = {}, {}, 0, 0, 0, 0
local keys, seen, records, pt = {}, {}, {}, x.pt
local final, usage, began = tonumber(x.f or '0'), x.us or '', nil
local function close_chunk()
  if count > 0 then
    entries[#entries + 1] = {head, count, table.concat(chunk)}
    chunk, count, size = {}, 0, 0
  end
end

for i = 22, #ARGV, 5 do
  local n, kind, key, of, blob = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local first, accepted = string.sub(kind, 1, 1), true
  local only_first, exclusive = first == 'o', first == 'X'
  if only_first then first = 's' end
  if exclusive then first = 'S' end
  if of ~= '' then
    if mode ~= '' then
      of = run
    elseif first == 's' or first == 'S' then
      if wrong_owner then
        return {3, x.e, head, 0, '', '', 0}
      elseif only_first and not open() and final > 0 then
        refused, accepted = true, false
      elseif exclusive and open() and holder ~= me and not adopts then
        refused, accepted = true, false
      elseif not open() or (holder == me and not room) or adopts then
        run, holder, pt, x.a = of, room and '' or me, false, ''
      elseif state == 'interrupted' and not room then
        former_process, former_run = holder, run
        run, holder, state, accepted, x.a = of, me, 'running', false, ''
      else
        guests[of] = first .. me
        accepted = false
      end
    elseif of == run and open() then
      -- A process that was paused may be neither the holder of its run any more, nor notice it.
      if holder == '' and state == 'interrupted' and not room then
        holder, former_process = me, me
      elseif holder ~= me and (x.a or '') ~= '' and not (adopts or renewed) then
        refused, accepted = true, false
      end
    elseif (adopts or (renewed and n > 0)) and (not open() or holder == me) then  -- the start of the run was lost
      run, holder, state = of, room and '' or me, 'running'
    elseif open() and is_guest(of) then
      if first == 'f' then
        guests[of], left[of] = nil, true
        accepted = holder == ''
      elseif first == 'i' then
        accepted = false
      end
    elseif open() and (adopts or renewed) and first ~= 'f' then  -- the record of its guests was lost
      guests[of] = 'S' .. me
    else
      refused, accepted = true, false
    end
    if accepted and first == 'f' and of == run and holder ~= '' then
      -- The run goes on with a guest that takes part in it.
      local all = call('HGETALL', hash)
      local candidates = {}
      for j = 1, #all, 2 do
        local id = string.sub(all[j], 3)
        if string.sub(all[j], 1, 2) == 'g:' and not left[id] then candidates[id] = all[j + 1] end
      end
      for id, value in pairs(guests) do candidates[id] = value end
      for id, value in pairs(candidates) do
        local process = string.sub(value, 2)
        local live = ARGV[20] == '' or string.find(',' .. ARGV[20] .. ',', ',' .. process .. ',', 1, true)
        if string.sub(value, 1, 1) == 'S' and live and process ~= holder then
          former_process, former_run = process, id
          run, holder, accepted, x.a = id, process, false, ''
          guests[id], left[id] = nil, true
          break
        end
      end
    end
  end
  if accepted and key ~= '' then
    local at = seen[key] or tonumber(call('ZSCORE', idempotency, key) or '0')
    if at >= oldest and at > 0 then
      repeated, accepted = repeated + n, false
    else
      seen[key] = head + 1
      keys[#keys + 1], keys[#keys + 2] = head + 1, key
    end
  end
  if accepted then
    if size > 0 and (size + #blob > 65536 or count + n > 512) then close_chunk() end
    head, kept = head + n, kept + n
    chunk[#chunk + 1], count, size = blob, count + n, size + #blob
    if first == 's' or first == 'S' then
      state, pt, records.sr, records.pr = 'running', false, head .. ' ' .. blob, ''
      usage, began = '', string.format('%.17g', (struct.unpack('<d', blob)))
    elseif first == 'f' then
      state, final, records.fr = string.sub(kind, 2), head, head .. ' ' .. blob
      holder, former_process = '', ''
    elseif first == 'i' then
      state = 'interrupted'
    elseif state == 'interrupted' and n > 0 and first ~= 'h' and first ~= 'w' then
      state = 'running'
    end
    if first == 'u' then usage = usage == '' and string.sub(kind, 2) or add_usage(usage, string.sub(kind, 2)) end
    if first == 'w' or (first == 'p' and pt ~= 'w') then
      records.pr, pt = head .. ' ' .. blob, first
    end
  end
end
close_chunk()

if refused then
  return {2, x.e, tonumber(x.h), 0, '', '', 0}
end

-- From here on everything is written.
local bytes, oldest_chunk = tonumber(x.b), tonumber(x.q)
for _, entry in ipairs(entries) do
  call('XADD', stream, entry[1] .. '-0', 'n', entry[2], 'r', entry[3])
  bytes = bytes + #entry[3] + 112 * entry[2]
  if oldest_chunk < oldest then oldest_chunk = entry[1] end
end
for at = 1, #keys, 1000 do  -- `unpack` takes a few thousand values
  call('ZADD', idempotency, unpack(keys, at, math.min(at + 999, #keys)))
end

local most, room_left = tonumber(ARGV[8]), tonumber(ARGV[9])
if head - oldest + 1 > most then oldest = head - most + 1 end
local stale = bytes > room_left or oldest_chunk < oldest
if stale and head > before then
  while true do
    local page = call('XRANGE', stream, '-', '+', 'COUNT', 2)
    if #page == 0 then break end
    local id, fields = page[1][1], page[1][2]
    local seq = tonumber(string.match(id, '^%d+'))
    if #page < 2 or not (seq < oldest or bytes > room_left) then
      oldest_chunk = seq
      if bytes > room_left then  -- one chunk is left: of its updates the newest stay
        local sizes, at, blob = {}, 1, fields[4]
        while at <= #blob do
          local _, h, k, b = struct.unpack('<dHHI4', string.sub(blob, at, at + 15))
          local long = 0
          if h == 65535 then h, long = struct.unpack('<I4', string.sub(blob, at + 16, at + 19)), 4 end
          sizes[#sizes + 1] = 16 + long + h + k + b
          at = at + sizes[#sizes]
        end
        local used, keep = 0, 0
        for j = #sizes, 1, -1 do
          used = used + sizes[j] + 112
          if keep > 0 and used > room_left then break end
          keep = keep + 1
        end
        if head - keep + 1 > oldest then oldest = head - keep + 1 end
      end
      break
    end
    bytes = bytes - #fields[4] - 112 * tonumber(fields[2])
    if seq + 1 > oldest then oldest = seq + 1 end
    call('XDEL', stream, id)
  end
end
if x.k or #keys > 0 then call('ZREMRANGEBYSCORE', idempotency, '-inf', '(' .. oldest) end

local set = {'e', x.e, 'h', head, 'l', oldest, 'q', oldest_chunk, 'b', bytes, 's', state, 'r', run, 'p', holder,
  'f', final, 'pt', pt or '', 'n:' .. producer, number .. ':' .. head}
local function put(name, value) set[#set + 1], set[#set + 2] = name, value end
if not exists then put('t', x.t) end
put('w', 0)
if usage ~= (x.us or '') then put('us', usage) end
if kept > 0 then put('u', ARGV[6]) end
if owner ~= '' then put('o', owner) end
if x.a then put('a', x.a) end
if #keys > 0 then put('k', '1') end
for name, value in pairs(records) do put(name, value) end
for id, value in pairs(guests) do put('g:' .. id, value) end
local producers = tonumber(x.nc or '0')
if not last then
  producers = producers + 1
  put('nc', producers)
end
call('HSET', hash, unpack(set))
for id in pairs(left) do call('HDEL', hash, 'g:' .. id) end
if producers > 512 then
  local all, known = call('HGETALL', hash), {}
  for j = 1, #all, 2 do
    if string.sub(all[j], 1, 2) == 'n:' then
      known[#known + 1] = {tonumber(string.match(all[j + 1], ':(%d+)$')), all[j]}
    end
  end
  table.sort(known, function(one, other) return one[1] < other[1] end)
  for j = 1, #known - 256 do call('HDEL', hash, known[j][2]) end
  call('HSET', hash, 'nc', 256)
end

local ended = state ~= 'running' and state ~= 'interrupted'
if records.fr then
  for _, field in ipairs(call('HKEYS', hash)) do
    if string.sub(field, 1, 2) == 'g:' then call('HDEL', hash, field) end
  end
end
local keeps, record = tonumber(ARGV[10]), tonumber(ARGV[11])
if not ended or keeps > record then keeps = record end
call('PEXPIRE', hash, record)
call('PEXPIRE', stream, keeps)
if x.k or #keys > 0 then call('PEXPIRE', idempotency, keeps) end

if adopts and head == before then
  call('SPUBLISH', ARGV[14], '')
  call('PUBLISH', ARGV[15], x.e .. ' ' .. before .. ' ' .. head .. ' ' .. ARGV[16])
end
if head > before then
  local text = {}
  for _, entry in ipairs(entries) do text[#text + 1] = entry[3] end
  notify(x.e, before, head, oldest, holder, x.t, usage, x.o or owner, table.concat(text))
end
return {0, x.e, head, repeated, former_process, former_run, kept, began}
