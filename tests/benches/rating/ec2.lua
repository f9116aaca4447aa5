-- EC2's rules, as a billing script has them: by the second, at least a minute for each start or waking.
local MINIMUM, SECOND = 60000000000, 1000000000
local BILLED = { initializing = true, running = true, paused = true }

local function due(used)
  local charged = math.max(used, MINIMUM)
  return (charged + SECOND - 1) // SECOND * SECOND
end

-- Half to even. Whole seconds, so that nothing outgrows 64 bits.
local function amount(billed, price)
  local exact = billed // SECOND * price.nanos
  local whole, rest = exact // price.seconds, exact % price.seconds
  if 2 * rest > price.seconds or 2 * rest == price.seconds and whole % 2 == 1 then
    whole = whole + 1
  end
  return whole
end

-- The line of one instance: rows in, what was charged out.
function line(instance, rows, price)
  local quantity, billed = 0, 0
  local used, current, asleep = 0, nil, false
  local function settle()
    billed, quantity = billed + due(used), quantity + used
    used, current = 0, nil
  end
  for _, row in ipairs(rows) do
    local sleeps = row.phase == "standby"
    local woke = asleep and not sleeps
    asleep = sleeps
    if current and (woke or current ~= row.session) then
      settle()
    end
    if BILLED[row.phase] then
      current = current or row.session
      used = used + row.stop - row.start
    end
  end
  if current then
    settle()
  end
  return {
    rule = price.rule, meter = "active", instance = instance,
    quantity = quantity, billed = billed, amount = amount(billed, price),
  }
end

-- The billed time alone, from columns: the least that a script can do.
function time(phase, start, stop, session)
  local billed, used, current, asleep = 0, 0, nil, false
  for i = 1, #phase do
    local sleeps = phase[i] == 5
    local woke = asleep and not sleeps
    asleep = sleeps
    if current ~= nil and (woke or current ~= session[i]) then
      billed = billed + due(used)
      used, current = 0, nil
    end
    if phase[i] == 1 or phase[i] == 2 or phase[i] == 3 then
      current = current or session[i]
      used = used + stop[i] - start[i]
    end
  end
  if current ~= nil then
    billed = billed + due(used)
  end
  return billed
end
