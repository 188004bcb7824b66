-- What a lexer must not stumble over. $1: a number.
-- Plan: none.
select E'a\'--;b', 'x;''-- y	', $1::int /* c /* n */ ; */ + 1, "q;""", $q$ ; -- $$ ' /* 

 $q$ as "ü???/9"   -- 'tail
, -- $$
       $$it's$$ || '\'
  -- gone; 'x

  from t;
-- end /* 
