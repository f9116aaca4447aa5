-- EC2's rules, as a billing script has them: by the second, at least a minute for each start or waking.
local MINIMUM, SECOND = 60000000000, 1000000000

local function due(used)
  local charged = math.max(used, MINIMUM)
  return (charged + SECOND - 1) // SECOND * SECOND
end

function rate(phase, start, stop, session)
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
